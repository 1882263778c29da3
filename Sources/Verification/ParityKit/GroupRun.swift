@_spi(Engine) internal import CallbackModel
internal import Synchronization

/// One scenario on a group of two loops, on the thread of its first loop. Each of the two has a stage of its own.
struct GroupRun: Sendable {
    let run: LoopRun
    let distribution: EventLoop.Group.Distribution

    private static let loopCount = 2

    func play() -> Verdict {
        var verdict = Verdict()
        do throws(IOError) {
            let group = try EventLoop.Group(count: Self.loopCount) { [run] () throws(IOError) in try run.makeLoop() }
            try play(group, &verdict)
        } catch {
            verdict.violations.append("an error was thrown: \(error)")
        }
        return verdict
    }

    private func play(_ group: EventLoop.Group, _ verdict: inout Verdict) throws(IOError) {
        let first = FirstStage(run)
        defer { first.tearDown() }
        let door = LoopBound(first, on: group.loop)
        let address = try first.listen(group, distribution, door)
        for number in run.scenario.peers.indices {
            run.startPeer(number, .connectTo(address)) { door.execute { $0.checkOver() } }
        }
        try run.run(group.loop, &verdict)
        // Each loop is asked on its own thread, behind all that its connections have done.
        var parts: [Verdict?] = []
        group.collect {
            $0.conclude()
        } then: { [unowned group] answers in
            parts = answers
            group.stop()
        }
        try group.run()
        verdict.violations += first.overseer.violations
        for (index, part) in parts.enumerated() {
            verdict.add(part ?? Verdict(violations: ["loop \(index) of the group did not answer"]))
        }
    }
}

extension EventLoop {
    /// What the stage of this loop, on its thread, has found.
    fileprivate func conclude() -> Verdict {
        guard let stage = StageOfThread.current else { return Verdict() }
        StageOfThread.set(nil)
        return stage.tearDown().verdict("after the run")
    }
}

/// What the first loop of a group does in a run: it listens, and ends the run.
private final class FirstStage {
    let overseer = Overseer()
    private let run: LoopRun
    private var listener: GroupListener?
    private var shed = 0
    /// The stages of the other loops, which keep them.
    private let stages = Stages()

    private final class Stages: Sendable {
        let all = Mutex<[LoopBound<Stage>]>([])
    }

    init(_ run: LoopRun) { self.run = run }

    func listen(
        _ group: EventLoop.Group, _ distribution: EventLoop.Group.Distribution, _ door: LoopBound<FirstStage>
    ) throws(IOError) -> SocketAddress {
        let (scenario, board) = (run.scenario, run.board)
        let listener = try group.listen(
            on: try scenario.endpoint.freshAddress(), options: scenario.options, distribution: distribution
        ) { [stages] loop in
            let stage = Stage(scenario, loop, board) { door.execute { $0.checkOver() } }
            stages.all.withLock { $0.append(LoopBound(stage, on: loop)) }
            StageOfThread.set(stage)
            let onConnection = stage.makeOnConnection()
            return { [unowned stage] in stage.accept($0, onConnection) }
        }
        listener.onShed = { [unowned self] _, shed in
            overseer.callback("onShed") { self.shed += shed.count }
            checkOver()
        }
        self.listener = listener
        return listener.localAddress
    }

    /// When nobody will come any more, the listener has no reason to stay.
    func checkOver() {
        let peers = run.scenario.peers.indices.map { run.board.progress(of: $0) }
        guard run.board.outcomes.count == peers.count, peers.allSatisfy({ !$0.isOpened || $0.isClosed }) else { return }
        if peers.count(where: \.isOpened) + shed >= peers.count(where: \.isConnected) { listener?.close() }
    }

    func tearDown() {
        listener = nil
        stages.all.withLock { $0 = [] }
    }
}

extension GroupRun {
    /// Why a scenario cannot be played on a group; `nil` if it can.
    static func obstacle(to scenario: Scenario, spread distribution: EventLoop.Group.Distribution) -> String? {
        if distribution == .byKernel, scenario.endpoint == .unix { return "the kernel spreads only TCP clients" }
        switch scenario.handler {
        case .closure: return nil
        case .program: return "it is a program for one loop"
        case .clients: return "it has no listener"
        case .script, .scripts: break
        }
        let scripts = scenario.scripts ?? []
        var timers: Set<Int> = []
        for (number, script) in scripts.enumerated() {
            let actions = script.allActions
            if let obstacle = actions.lazy.compactMap({ obstacle(to: $0, by: number) }).first { return obstacle }
            let mine = Set(actions.compactMap(\.timer))
            guard timers.isDisjoint(with: mine) else { return "connections share a timer" }
            timers.formUnion(mine)
        }
        let isNoting = scripts.count { $0.allActions.contains { if case .note = $0 { true } else { false } } }
        return isNoting > 1 ? "several connections make notes, which are in an order" : nil
    }

    private static func obstacle(to action: Script.Action, by number: Int) -> String? {
        switch action {
        case .other, .pipe: "a connection acts on another one"
        case .awaitInput(let other) where other != number: "a connection waits for another one"
        case .awaitRoom(let other) where other != number: "a connection waits for another one"
        case .closeListener, .pauseListener, .resumeListener, .drainListener: "a connection acts on the listener"
        default: nil
        }
    }
}

extension Script.Action {
    fileprivate var timer: Int? {
        switch self {
        case .startTimer(let number, _, _), .cancelTimer(let number), .rearmTimer(let number, _): number
        default: nil
        }
    }
}
