internal import CallbackModel

extension Scenario {
    /// The scenario of this seed, always the same: some connections, each with a few rounds of bytes and an end.
    ///
    /// It is made so that the kernel's timing does not show: what the handler does, it does at positions in the
    /// stream; a peer goes on once it knows that this has happened. Where bytes are in flight at a reset, only an
    /// exact prefix is asked for.
    public static func random(seed: UInt64) -> Scenario {
        var generator = ScenarioGenerator(seed: seed)
        return generator.make()
    }
}

/// Draws scenarios whose outcome does not depend on the kernel's timing.
struct ScenarioGenerator {
    let seed: UInt64
    private var random: SplitMix
    private var nextPattern: UInt64 = 0
    private var nextTimer = 0
    private var hasSmallSendBuffer = false

    /// Connections of one scenario.
    private static let connections = 1...4
    /// Rounds of one connection.
    private static let rounds = 0...4
    /// Unread bytes that fit into any buffer of the kernel's, so that who does not read blocks nobody (socket(7): the
    /// least SO_RCVBUF is 2,304).
    private static let mostUnread = 1_500
    /// With a small buffer even a few unread bytes may fill it: each piece costs the kernel hundreds of bytes more.
    private var mostUnread: Int { hasSmallSendBuffer ? 0 : Self.mostUnread }

    init(seed: UInt64) {
        self.seed = seed
        // Neighbouring seeds would give neighbouring first numbers to a generator that only counts.
        random = SplitMix(seed: seed &* 0xD134_2543_DE82_EF95)
    }

    mutating func make() -> Scenario {
        let count = Int.random(in: Self.connections, using: &random)
        let endpoint = [.ipv4, .ipv4, .ipv4, .ipv6, .unix].randomElement(using: &random) ?? Scenario.Endpoint.ipv4
        let isClient = chance(1, of: 4)
        var options = makeOptions()
        var parts = (0..<count).map { _ in ConnectionPlan(isUnix: endpoint == .unix) }
        for number in parts.indices { makeRounds(&parts[number]) }
        let ends = chooseEnds(count)
        // The first one last: it may have to end others before.
        for number in parts.indices.reversed() {
            if number == 0, !isClient, chance(1, of: 6) { closeListener(&parts[0], count) }
            makeEnd(ends[number], &parts, number, options.connection.allowsHalfOpen)
        }
        if chance(1, of: 150) { addStall(&parts, &options) }
        let scripts = parts.map { Script($0.response, $0.reactions, framing: $0.framing) }
        return Scenario(
            "random-\(seed)", source: "seed \(seed)", on: endpoint, options: options,
            handler: isClient ? .clients(scripts) : .scripts(scripts), peers: parts.map(\.peer),
            expected: parts.map(\.expectation), notes: nil)
    }

    // MARK: Drawing

    private mutating func chance(_ count: Int, of all: Int) -> Bool {
        Int.random(in: 0..<all, using: &random) < count
    }

    private mutating func pick<Value>(_ values: [Value]) -> Value {
        values[Int.random(in: values.indices, using: &random)]
    }

    private mutating func pattern(_ count: Int) -> Payload {
        nextPattern += 1
        return .pattern(seed &* 1_000 &+ nextPattern, count: count)
    }

    /// What a peer sends: whole frames, if that is what the handler is told.
    private mutating func input(_ count: Int, _ plan: ConnectionPlan) -> Payload {
        guard let framing = plan.framing else { return pattern(count) }
        return framing.frames(of: pattern(max(0, count - 2)))
    }

    private mutating func makeOptions() -> Listener.Options {
        var options = Listener.Options()
        options.connection.highWaterMark = pick([1, 1_000, 16_384, 65_536, 65_536])
        options.connection.lowWaterMark = Int.random(in: 0..<options.connection.highWaterMark, using: &random)
        options.connection.allowsHalfOpen = chance(1, of: 3)
        hasSmallSendBuffer = chance(1, of: 3)
        if hasSmallSendBuffer { options.connection.sendBufferSize = pick([1, 4_096, 16_384]) }
        options.acceptsPerWakeup = pick([1, 2, 16])
        return options
    }

    // MARK: Rounds

    private mutating func makeRounds(_ plan: inout ConnectionPlan) {
        plan.response = pick([
            .nothing, .echo, .echo, .echoWithoutPausing, .part(of: Int.random(in: 2...9, using: &random)),
        ])
        plan.framing = pick([nil, nil, nil, .lines(limit: 1 << 20), .messages(limit: 65_535)])
        // With both ends of a TCP connection tiny, the kernel waits for its own timers after each segment.
        if chance(1, of: 3), !hasSmallSendBuffer || plan.isUnix { plan.peer.receiveBuffer = pick([4_096, 16_384]) }
        if chance(1, of: 4) { plan.peer.sendBuffer = pick([4_096, 16_384]) }
        if chance(1, of: 8) { plan.write(pattern(Int.random(in: 1...900, using: &random)), at: .start) }
        for _ in 0..<Int.random(in: Self.rounds, using: &random) { makeRound(&plan) }
    }

    private mutating func makeRound(_ plan: inout ConnectionPlan) {
        // Some 600 lines of one round take a sanitizer longer than the scenario may.
        let isSmall = plan.response.isPart || plan.framing != nil || chance(2, of: 3)
        let size =
            isSmall
            ? Int.random(in: 1...1_000, using: &random) : Int.random(in: 1...pick([20_000, 150_000]), using: &random)
        let payload = input(size, plan)
        plan.receive(payload)
        if chance(1, of: 2) { addActions(&plan) }
        let isTight = hasSmallSendBuffer || plan.peer.receiveBuffer != nil
        // Of a part of a frame the handler is not told.
        let isSlow = size <= 40 && chance(1, of: 2) && !isTight && plan.framing == nil
        if !isSlow, plan.unread > mostUnread || plan.needsReading || chance(1, of: 2) {
            plan.peer.steps.append(.exchange(payload, receiving: plan.unread))
            plan.unread = 0
        } else {
            plan.peer.steps.append(isSlow ? .drip(payload, by: Int.random(in: 1...5, using: &random)) : .send(payload))
            if plan.unread > mostUnread || plan.needsReading {
                plan.peer.steps.append(.read(plan.unread))
                plan.unread = 0
            }
        }
        plan.needsReading = false
        plan.peer.steps.append(.wait(.received(plan.received.count)))
    }

    private mutating func addActions(_ plan: inout ConnectionPlan) {
        // What a timer writes comes after all that its callback wrote: nothing is added behind it.
        for _ in 0..<Int.random(in: 1...3, using: &random) where !plan.needsReading {
            switch Int.random(in: 0..<10, using: &random) {
            case 0, 1: plan.write(pattern(Int.random(in: 1...400, using: &random)))
            case 2: plan.write(pattern(Int.random(in: 1...pick([30_000, 200_000]), using: &random)))
            case 3: plan.write(pattern(Int.random(in: 1...pick([300, 60_000]), using: &random)), completing: true)
            case 4: plan.writePieces((0..<3).map { _ in pattern(Int.random(in: 0...200, using: &random)) })
            case 5: plan.writeEach(pattern(Int.random(in: 1...20, using: &random)), times: 30)
            case 6: pauseForAWhile(&plan)
            case 7: plan.act(.letGo)
            default: addTimer(&plan)
            }
        }
    }

    private mutating func pauseForAWhile(_ plan: inout ConnectionPlan) {
        nextTimer += 1
        plan.act(.pause)
        plan.act(.startTimer(nextTimer, milliseconds: Int.random(in: 0...2, using: &random), [.resume]))
    }

    /// A timer that writes, perhaps cancelled, perhaps armed anew.
    private mutating func addTimer(_ plan: inout ConnectionPlan) {
        nextTimer += 1
        let payload = pattern(Int.random(in: 1...300, using: &random))
        switch Int.random(in: 0..<3, using: &random) {
        case 0:
            plan.act(.startTimer(nextTimer, milliseconds: 60_000, [.write(payload)]))
            plan.act(.cancelTimer(nextTimer))
            return
        case 1:
            plan.act(.startTimer(nextTimer, milliseconds: 60_000, [.write(payload)]))
            plan.act(.rearmTimer(nextTimer, milliseconds: Int.random(in: 0...2, using: &random)))
        default:
            plan.act(.startTimer(nextTimer, milliseconds: Int.random(in: 0...2, using: &random), [.write(payload)]))
        }
        plan.writeLater(payload)
    }

    /// In some callback of input the handler takes longer than the time-outs, which no peer here deserves. One second
    /// is more than a peer's thread ever waits for a processor.
    private mutating func addStall(_ plans: inout [ConnectionPlan], _ options: inout Listener.Options) {
        let all: [WritableKeyPath<Connection.Timeouts, Duration?>] = [\.idle, \.read, \.write, \.connect]
        for timeout in all { options.connection.timeouts[keyPath: timeout] = .seconds(1) }
        options.connection.timeouts.close = .seconds(1)
        let number = Int.random(in: plans.indices, using: &random)
        let places = plans[number].reactions.indices.filter {
            if case .received = plans[number].reactions[$0].trigger { true } else { false }
        }
        guard let place = places.randomElement(using: &random) else { return }
        plans[number].reactions[place].actions.append(.stall(milliseconds: 1_200))
    }

    // MARK: Ends

    private enum End: CaseIterable {
        case peerFinishes, peerFinishesAndIsAnswered, peerCloses, peerResets, serverEnds, serverCloses, serverResets
        /// Connection 0 does it to this one.
        case closedByFirst, resetByFirst, endedByFirst
    }

    private mutating func chooseEnds(_ count: Int) -> [End] {
        (0..<count).map { number in
            let all = End.allCases
            // The first is not ended by itself.
            return pick(number == 0 ? Array(all.dropLast(3)) : Array(all))
        }
    }

    /// At one more byte, when all have been accepted, the listener goes.
    private mutating func closeListener(_ first: inout ConnectionPlan, _ count: Int) {
        let last = input(1, first)
        first.receive(last)
        first.peer.steps += (0..<count).map { .waitFor($0, .opened) }
        first.peer.steps += [.send(last), .wait(.received(first.received.count))]
        first.act(.closeListener)
    }

    private mutating func makeEnd(
        _ end: End, _ plans: inout [ConnectionPlan], _ number: Int, _ isHalfOpen: Bool
    ) {
        var plan = plans[number]
        defer { plans[number] = plan }
        plan.settle()
        switch end {
        case .peerFinishes, .peerFinishesAndIsAnswered:
            if end == .peerFinishesAndIsAnswered { plan.write(pattern(pick([10, 5_000, 100_000])), at: .end) }
            if isHalfOpen { plan.act(.end, at: .end) }
            plan.peer.steps += [.halfClose, .readToEnd]
            plan.finish(.peerClosed, sawEnd: true, .end)
        case .peerCloses, .peerResets:
            if isHalfOpen { plan.act(.end, at: .end) }
            let isReset = end == .peerResets && !plan.isUnix
            plan.peer.steps.append(isReset ? .reset : .close)
            plan.finish(isReset ? .peerReset : .peerClosed, sawEnd: !isReset, .unseen)
        case .serverEnds, .serverCloses, .serverResets: makeServerEnd(end, &plan)
        case .closedByFirst, .resetByFirst, .endedByFirst: makeEndByFirst(end, &plan, &plans[0], number)
        }
    }

    /// At a last byte the handler ends, perhaps behind a large write.
    private mutating func makeServerEnd(_ end: End, _ plan: inout ConnectionPlan) {
        let last = input(1, plan)
        plan.receive(last)
        plan.peer.steps.append(.send(last))
        let isReset = end == .serverResets
        if chance(1, of: 2) { plan.write(pattern(pick([10, 30_000, 300_000])), completing: !isReset) }
        plan.act(end == .serverEnds ? .end : isReset ? .reset : .close)
        if chance(1, of: 2) { plan.act(.write("never")) }
        plan.peer.steps.append(.readToEnd)
        if isReset {
            plan.finishByReset()
        } else {
            plan.finish(.localClose, sawEnd: end == .serverEnds, .end)
        }
    }

    /// Connection 0 gets one more byte, once this one is at rest, and then ends this one.
    private mutating func makeEndByFirst(
        _ end: End, _ plan: inout ConnectionPlan, _ first: inout ConnectionPlan, _ number: Int
    ) {
        let last = input(1, plan)
        plan.receive(last)
        plan.peer.steps.append(.send(last))
        // Its own script must still know it.
        plan.keepHold()
        let farewell = pattern(pick([5, 2_000]))
        let action: Script.Action = end == .closedByFirst ? .close : end == .endedByFirst ? .end : .reset
        let trigger = input(1, first)
        first.receive(trigger)
        first.peer.steps += [
            .waitFor(number, .received(plan.received.count)), .send(trigger), .wait(.received(first.received.count)),
        ]
        first.act(.other(number, end == .resetByFirst ? [action] : [.write(farewell), action]))
        plan.peer.steps.append(.readToEnd)
        if end == .resetByFirst {
            plan.finishByReset()
        } else {
            plan.answer += [farewell]
            plan.finish(.localClose, sawEnd: end == .endedByFirst, .end)
        }
    }
}
