package import CallbackModel
internal import Glibc
internal import Synchronization

/// What the loop's thread found.
struct Verdict: Sendable {
    var seen: [Int: Observed] = [:]
    var notes: [String] = []
    var violations: [String] = []
}

/// One scenario on one participant, on the thread of its loop.
struct LoopRun: Sendable {
    let scenario: Scenario
    let participant: Participant
    let board: Board
    let deadline: ContinuousClock.Instant

    func run() -> Verdict {
        var verdict = Verdict()
        var options = EventLoop.Options()
        options.collectsMetrics = true
        var observers: [Int: ConnectionObserver] = [:]
        do throws(IOError) {
            let stage = Stage(scenario, try participant.makeLoop(options), board, beginsTasks: participant.beginsTasks)
            defer {
                stage.tearDown()
                StageOfThread.set(nil)
                observers = stage.observers
                verdict.notes = stage.notes
                verdict.violations += stage.overseer.violations
            }
            StageOfThread.set(stage)
            try begin(stage)
            try run(stage, &verdict)
        } catch {
            verdict.violations.append("an error was thrown: \(error)")
        }
        for (number, observer) in observers {
            observer.checkDescriptor("after the loop was let go")
            observer.checkTasks()
            verdict.seen[number] = observer.seen
        }
        return verdict
    }

    private func run(_ stage: Stage, _ verdict: inout Verdict) throws(IOError) {
        let loop = stage.loop
        let start = ContinuousClock.now
        var isLate = false
        let limit = loop.schedule(after: scenario.timeLimit) { timer in
            isLate = true
            StageOfThread.current?.loop.stop()
        }
        limit.unref()
        try loop.run()
        limit.cancel()
        if isLate { verdict.violations.append("the loop did not come to its end within \(scenario.timeLimit)") }
        if let spinning = loop.metrics.spinning(for: .now - start) { verdict.violations.append(spinning) }
    }

    /// Sets the stage and lets the peers begin.
    private func begin(_ stage: Stage) throws(IOError) {
        switch scenario.handler {
        case .script(let script):
            try stage.listen { [unowned stage] in stage.play(script, $0, as: stage.number(of: $0)) }
        case .scripts(let scripts):
            try stage.listen { [unowned stage] connection in
                let number = stage.number(of: connection)
                if scripts.indices.contains(number) { stage.play(scripts[number], connection, as: number) }
            }
        case .clients(let scripts):
            for (number, script) in scripts.enumerated() {
                var options = EventLoop.ConnectOptions()
                options.connection = scenario.options.connection
                try stage.connect(to: number, options: options) { stage.play(script, $0, as: number) }
            }
        case .closure(let handler): try stage.listen(handler(stage.loop))
        case .program(let program): try program(stage)
        }
        let waker = stage.loop.waker
        for (number, peer) in scenario.peers.enumerated() {
            let place: PeerPlayer.Place =
                if let (descriptor, _) = stage.listeningPeers[number] {
                    .accept(descriptor)
                } else if let listener = stage.listener {
                    .connectTo(listener.localAddress)
                } else {
                    .nowhere
                }
            startPeer(peer, number, place, waker)
        }
    }

    private func startPeer(_ peer: Peer, _ number: Int, _ place: PeerPlayer.Place, _ waker: EventLoop.Waker) {
        let (board, deadline) = (board, deadline)
        var reference: [UInt8]?
        if scenario.expected.indices.contains(number), case .prefix(let all) = scenario.expected[number].peerReceived {
            reference = all.bytes
        }
        let thread = startThread { [reference] in
            let outcome = PeerPlayer(peer, number, place, board, expecting: reference, until: deadline).play()
            board.finish(number, outcome)
            waker.execute { StageOfThread.current?.checkOver() }
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
