package import CallbackModel
internal import Glibc
internal import Synchronization

/// What the loop's thread found.
struct Verdict: Sendable {
    var seen: [Int: Observed] = [:]
    var notes: [String] = []
    var violations: [String] = []

    /// What another loop of the same run found.
    mutating func add(_ other: Verdict) {
        seen.merge(other.seen) { mine, _ in mine }
        notes += other.notes
        violations += other.violations
    }
}

/// One scenario on one participant, on the thread of its loop.
struct LoopRun: Sendable {
    let scenario: Scenario
    let participant: Participant
    let board: Board
    let deadline: ContinuousClock.Instant

    func run() -> Verdict {
        if let obstacle = participant.form.obstacle(to: scenario) {
            return Verdict(violations: ["it cannot be played in the form \"\(participant.form.name)\": \(obstacle)"])
        }
        switch participant.form.kind {
        case .loop(let beginsTasks, let begin): return play(beginsTasks: beginsTasks, begin)
        case .group(let distribution): return GroupRun(run: self, distribution: distribution).play()
        }
    }

    private func play(
        beginsTasks: Bool, _ begin: @escaping @Sendable (Stage) throws(IOError) -> Void
    ) -> Verdict {
        var verdict = Verdict()
        var record: Stage.Record?
        do throws(IOError) {
            let stage = Stage(
                scenario, try makeLoop(), board, over: participant.form.transport, beginsTasks: beginsTasks)
            defer {
                record = stage.tearDown()
                StageOfThread.set(nil)
            }
            StageOfThread.set(stage)
            try begin(stage)
            startPeers(stage)
            try run(stage.loop, &verdict)
        } catch {
            verdict.violations.append("an error was thrown: \(error)")
        }
        if let record { verdict.add(record.verdict("after the loop was let go")) }
        return verdict
    }

    func makeLoop() throws(IOError) -> EventLoop {
        var options = EventLoop.Options()
        options.collectsMetrics = true
        return try participant.makeLoop(options)
    }

    func run(_ loop: EventLoop, _ verdict: inout Verdict) throws(IOError) {
        let start = ContinuousClock.now
        var isLate = false
        let limit = loop.schedule(after: scenario.timeLimit) { [unowned loop] _ in
            isLate = true
            loop.stop()
        }
        limit.unref()
        try loop.run()
        limit.cancel()
        if isLate { verdict.violations.append("the loop did not come to its end within \(scenario.timeLimit)") }
        if let spinning = loop.metrics.spinning(for: .now - start) { verdict.violations.append(spinning) }
    }

    private func startPeers(_ stage: Stage) {
        let waker = stage.loop.waker
        for number in scenario.peers.indices {
            let place: PeerPlayer.Place =
                if let (descriptor, _) = stage.listeningPeers[number] {
                    .accept(descriptor)
                } else if let listener = stage.listener {
                    .connectTo(listener.localAddress)
                } else {
                    .nowhere
                }
            startPeer(number, place) { waker.execute { StageOfThread.current?.checkOver() } }
        }
    }

    /// Lets a peer begin; `ended` is called on its thread when it is through.
    func startPeer(_ number: Int, _ place: PeerPlayer.Place, ended: @escaping @Sendable () -> Void) {
        let (peer, board, deadline) = (scenario.peers[number], board, deadline)
        let transport = participant.form.transport
        var reference: [UInt8]?
        if scenario.expected.indices.contains(number), case .prefix(let all) = scenario.expected[number].peerReceived {
            reference = all.bytes
        }
        let thread = startThread { [reference] in
            let player = PeerPlayer(
                peer, number, place, over: transport, board, expecting: reference, until: deadline)
            let outcome = player.play()
            board.finish(number, outcome)
            ended()
        }
        board.add(thread)
    }
}

extension EventLoop.Metrics {
    /// A loop turns for each event, callback and millisecond a few times at most; more is spinning.
    private static let turnsPerEvent: UInt64 = 8
    private static let turnsPerMillisecond: UInt64 = 4
    private static let turnsAllowed: UInt64 = 1_000

    /// What is wrong with a loop that has run for `time`; `nil` if it has waited as it should.
    package func spinning(for time: Duration) -> String? {
        let milliseconds = UInt64(max(0, time.wholeMilliseconds))
        let bound =
            Self.turnsAllowed + Self.turnsPerEvent * (events + callbacks) + Self.turnsPerMillisecond * milliseconds
        return turns > bound ? "the loop spun: \(turns) turns for \(events) events" : nil
    }
}

/// The stage of the thread that runs it, for closures that come from other threads and run on this one.
enum StageOfThread {
    private static let slot = ThreadSlot<Stage>()

    /// The stage, kept alive by `LoopRun.run` for as long as it is set.
    static var current: Stage? { slot.object }

    static func set(_ stage: Stage?) { slot.object = stage }
}

/// An object for each thread, which whoever sets it keeps alive (pthread_setspecific(3)).
package struct ThreadSlot<Object: AnyObject>: Sendable {
    private let key: pthread_key_t

    package init() {
        var key = pthread_key_t()
        _ = unsafe pthread_key_create(&key, nil)
        self.key = key
    }

    package var object: Object? {
        get { unsafe pthread_getspecific(key).map { unsafe Unmanaged<Object>.fromOpaque($0).takeUnretainedValue() } }
        nonmutating set {
            _ = unsafe pthread_setspecific(
                key, newValue.map { unsafe UnsafeRawPointer(Unmanaged.passUnretained($0).toOpaque()) })
        }
    }
}

extension SplitMix {
    private static let counter = Atomic<Int>(0)

    /// A number that no other call in this process gets.
    package static func nextNumber() -> Int {
        counter.wrappingAdd(1, ordering: .relaxed).newValue
    }
}
