/// One connection of a random scenario while it is drawn: script, peer, and what has to come of it.
struct ConnectionPlan {
    let isUnix: Bool
    var response = Script.Response.nothing
    var reactions: [Script.Reaction] = []
    var framing: Script.Framing?
    var peer = Peer(steps: [])
    /// All that the peer has sent.
    var received = Payload.nothing
    /// All that the handler has sent, in order.
    var answer: [Payload] = []
    /// How much of it the peer has not received.
    var unread = 0
    /// Whether a timer writes: what follows must not overtake it.
    var needsReading = false
    private var completions = 0
    private(set) var expectation = Scenario.Expectation(closing: nil, nil)

    init(isUnix: Bool) { self.isUnix = isUnix }

    /// The peer sends this, and the handler answers as it does.
    mutating func receive(_ payload: Payload) {
        let start = received.count
        received = received + payload
        switch response {
        case .nothing: break
        case .echo, .echoWithoutPausing: add(payload)
        case .part(let period):
            let bytes = payload.bytes
            let part = bytes.indices.filter { (start + $0).isMultiple(of: period) }.map { bytes[$0] }
            add(.bytes(part))
        }
    }

    private mutating func add(_ payload: Payload) {
        guard payload.count > 0 else { return }
        answer.append(payload)
        unread += payload.count
    }

    /// Does something at the last byte so far, or at another moment.
    mutating func act(_ action: Script.Action, at trigger: Script.Trigger? = nil) {
        let trigger = trigger ?? .received(received.count)
        if let last = reactions.indices.last, reactions[last].trigger == trigger {
            reactions[last].actions.append(action)
        } else {
            reactions.append(Script.Reaction(trigger: trigger, actions: [action]))
        }
    }

    mutating func write(_ payload: Payload, at trigger: Script.Trigger? = nil, completing: Bool = false) {
        act(completing ? .writeCompleting(payload) : .write(payload), at: trigger)
        if completing { completions += 1 }
        add(payload)
    }

    mutating func writePieces(_ pieces: [Payload]) {
        act(.writePieces(pieces))
        for piece in pieces { add(piece) }
    }

    mutating func writeEach(_ payload: Payload, times: Int) {
        act(.writeEach(payload, times: times))
        for _ in 0..<times { add(payload) }
    }

    /// A timer will write it, before anything else happens.
    mutating func writeLater(_ payload: Payload) {
        answer.append(payload)
        unread += payload.count
        needsReading = true
    }

    /// The peer receives all that is on its way.
    mutating func settle() {
        if unread > 0 { peer.steps.append(.read(unread)) }
        unread = 0
    }

    /// The handler's own reference is needed: it is not let go.
    mutating func keepHold() {
        for index in reactions.indices { reactions[index].actions.removeAll { $0 == .letGo } }
    }

    // MARK: What comes of it

    mutating func finish(_ closing: Transcript.Closing, sawEnd: Bool, _ ending: Transcript.Ending) {
        expectation = Scenario.Expectation(closing: closing, ending)
        expectation.isEnded = sawEnd
        expectation.completions = completions
        describeBytes()
    }

    /// The handler resets: bytes in flight are lost, and a Unix socket knows no reset (unix(7)).
    mutating func finishByReset() {
        expectation = Scenario.Expectation(closing: .localReset, isUnix ? nil : .reset)
        expectation.completions = nil
        expectation.failures = nil
        isCut = true
        describeBytes()
    }

    private var isCut = false

    private mutating func describeBytes() {
        let all = answer.reduce(Payload.nothing, +)
        expectation.received = .exactly(received)
        expectation.peerReceived = isCut ? .prefix(of: all) : .exactly(all)
        expectation.isDrained = nil
    }
}

extension Script.Response {
    var isPart: Bool {
        if case .part = self { true } else { false }
    }
}
