import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The end of a group` {
    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `drains all loops under load with one report, and loses nothing`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        for _ in 0..<size("CALLBACKSERVER_GROUP_ROUNDS", orElse: 2) {
            let stage = try GroupStage(engine, count: 2, distribution)
            let port = stage.port
            let threads = (0..<4).map { seed in
                onThread {
                    var whole = 0
                    // Until nobody listens any more.
                    while let client = try? PlainClient(port: port) {
                        // Reset by the kernel in the backlog of a socket that closes: never accepted.
                        guard (try? client.receiveLine()) != nil else { break }
                        try client.echoExactly(100_000, seed: UInt64(seed + 1))
                        whole += 1
                    }
                    return whole
                }
            }
            let tally = stage.tally
            try stage.group.loop.run(until: { tally.served.load(ordering: .relaxed) >= 12 })
            var report: DrainReport?
            stage.listener.drain(within: .seconds(20)) { report = $0 }
            try stage.group.run()
            let whole = try threads.reduce(0) { try $0 + $1.value() }
            #expect(report?.forced == 0 && report?.unanswered == 0 && report?.broken == 0, "\(report!)")
            #expect(whole == tally.served.load(ordering: .relaxed))
            #expect(stage.listener.connectionCount == 0)
            try waitUntilRefused(port: port)
        }
    }

    @Test(arguments: Engine.allCases)
    func `ends what has not finished at the deadline, and does not wait for a loop that hangs`(
        engine: Engine
    ) throws {
        let stage = try GroupStage(engine, count: 2)
        let clients = try stage.connect(4)
        let mayGoOn = Flag()
        stage.group.members[1].execute { _ in mayGoOn.wait() }
        var report: DrainReport?
        let began = ContinuousClock.now
        stage.listener.drain(within: .milliseconds(50)) { report = $0 }
        try stage.group.loop.run(until: { report != nil })
        #expect(ContinuousClock.now - began < .seconds(5))
        #expect(report?.forced == 2 && report?.unanswered == 2)
        mayGoOn.set()
        try stage.group.run()
        withExtendedLifetime(clients) {}
    }

    @Test(arguments: Engine.allCases)
    func `stops every loop, also if it was never run, and keeps no socket`(engine: Engine) throws {
        var port: UInt16 = 0
        do {
            let stage = try GroupStage(engine, count: 2, .shared)
            port = stage.port
            let clients = try stage.connect(4)
            stage.group.loop.schedule(after: .zero) { _ in stage.group.stop() }
            try stage.group.run()
            withExtendedLifetime(clients) {}
        }
        try waitUntilRefused(port: port)
        _ = try EventLoop.Group(engine: engine, count: 2)
    }

    /// Both loops have seen the one client that waits, and only one of them gets it.
    @Test(arguments: Engine.allCases)
    func `drains a shared socket although nobody comes any more`(engine: Engine) throws {
        let stage = try GroupStage(engine, count: 2, .shared)
        stage.listener.pause()
        let client = try PlainClient(port: stage.port)
        var isPaused = false
        stage.group.collect({ _ in true }, then: { _ in isPaused = true })
        try stage.group.loop.run(until: { isPaused })
        var report: DrainReport?
        let began = ContinuousClock.now
        stage.listener.drain(within: .seconds(25)) { report = $0 }
        let peer = onThread {
            let line = try? client.receiveLine()
            client.close()
            return line != nil
        }
        try stage.group.loop.run(until: { report != nil })
        #expect(ContinuousClock.now - began < .seconds(20))
        #expect(try peer.value() && report?.finished == 1)
        try stage.group.run()
    }

    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `serves the clients that wait in the backlog when it drains`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        let stage = try GroupStage(engine, count: 2, distribution)
        stage.listener.pause()
        var isPaused = false
        stage.group.collect({ _ in true }, then: { _ in isPaused = true })
        try stage.group.loop.run(until: { isPaused })
        let clients = try (0..<20).map { _ in try PlainClient(port: stage.port) }
        waitUntil("all are in the backlog") { waitingClients(port: stage.port) == 20 }
        var report: DrainReport?
        stage.listener.drain(within: .seconds(20)) { report = $0 }
        let peers = onThread {
            for client in clients {
                _ = try client.receiveLine()
                client.close()
            }
        }
        try stage.group.run()
        try peers.value()
        // Not `finished`: a client may be through before its loop hears of the drain.
        #expect(stage.tally.served.load(ordering: .relaxed) == 20 && report?.forced == 0)
    }

    /// Loop 1 has seen that a client waits, and loop 0 takes it before loop 1 looks again.
    @Test(arguments: Engine.allCases)
    func `a loop drains its part of a shared socket although another one takes the last client`(engine: Engine) throws {
        let stage = try GroupStage(engine, count: 2, .shared)
        let (port, mayAccept) = (stage.port, Flag())
        hold(stage.group.members[0], until: mayAccept)
        let first = try #require(try stage.connect(1).first)
        #expect(first.loop == 1)
        let (isHeld, clientWaits, isDraining, isDrained) = (Flag(), Flag(), Flag(), Flag())
        stage.tally.rooms.withLock { $0[1] }?.execute { room in
            isHeld.set()
            clientWaits.wait()
            room.listener?.drain(within: .seconds(25)) { _ in isDrained.set() }
            isDraining.set()
            waitUntil("the client is with loop 0") { waitingClients(port: port) == 0 }
        }
        isHeld.wait()
        let last = try PlainClient(port: port)
        waitUntil("the client is in the backlog") { waitingClients(port: port) == 1 }
        clientWaits.set()
        isDraining.wait()
        mayAccept.set()
        #expect(try last.receiveLine() == "0")
        first.client.close()
        // Long before the drain's deadline.
        isDrained.wait()
        last.close()
        try stage.end()
    }

    /// Stopped in the turn in which the client comes to it, which is its last one.
    @Test(arguments: Engine.allCases)
    func `a client that was handed to a loop about to end is served by another one`(engine: Engine) throws {
        let stage = try GroupStage(engine, count: 2)
        #expect(try stage.connect(1).map(\.loop) == [0])
        let mayEnd = Flag()
        hold(stage.group.members[1], until: mayEnd)
        stage.group.members[1].execute { $0.stop() }
        let client = try PlainClient(port: stage.port)
        try stage.group.loop.run(until: { stage.listener.connectionCounts[1] == 1 })
        mayEnd.set()
        let line = onThread { try client.receiveLine() }
        try stage.group.loop.run(until: { line.isFinished })
        #expect(try line.value() == "0")
        client.close()
        try stage.end()
    }

    /// Keeps a loop in a callback; returns when it is there.
    private func hold(_ member: EventLoop.Group.Member, until mayGoOn: Flag) {
        let isHeld = Flag()
        member.execute { _ in
            isHeld.set()
            mayGoOn.wait()
        }
        isHeld.wait()
    }

    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `ends loops that their own callbacks hold`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        var group: EventLoop.Group? = try EventLoop.Group(engine: engine, count: 2)
        let listener = try #require(group).listen(
            on: .ipv4("127.0.0.1", port: 0), distribution: distribution
        ) { loop in
            { connection in connection.write("\(loop.indexInGroup ?? -1)\n") }
        }
        let port = UInt16(listener.localAddress.port ?? 0)
        let thread = onThread { try (0..<4).map { _ in try groupClient(port).client } }
        try group?.loop.run(until: { thread.isFinished })
        group = nil
        for client in try thread.value() { _ = try client.receiveUntilOver() }
        try waitUntilRefused(port: port)
    }

    @Test(arguments: Engine.allCases)
    func `a group that was stopped listens no more, and runs to its end`(engine: Engine) throws {
        let stage = try GroupStage(engine, count: 2)
        stage.group.stop()
        try stage.group.run()
        let error = #expect(throws: IOError.self) {
            try stage.group.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in { _ in } }
        }
        #expect(error?.name == "ECANCELED")
        try stage.group.run()
    }

    /// The loop hangs before it hears of the listener, or in the closure that makes what its connections share.
    @Test(arguments: Engine.allCases, [EventLoop.Group.Distribution.shared, .byKernel])
    func `listens on no loop if one does not answer, not even later`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        for isInside in [false, true] {
            let group = try EventLoop.Group(engine: engine, count: 2)
            let mayGoOn = Flag()
            if !isInside { group.members[1].execute { _ in mayGoOn.wait() } }
            let port = try unusedPort()
            let error = #expect(throws: IOError.self) {
                try group.listen(on: .ipv4("127.0.0.1", port: Int(port)), distribution: distribution) { loop in
                    if isInside, loop.indexInGroup == 1 { mayGoOn.wait() }
                    return { _ in }
                }
            }
            #expect(error?.name == "ETIMEDOUT" && error?.detail?.contains("loop 1") == true)
            // Loop 0 hears of it in its own time.
            try group.run()
            try waitUntilRefused(port: port)
            mayGoOn.set()
            var answers: [Int?] = []
            group.collect(within: .seconds(10), { $0.indexInGroup ?? -1 }, then: { answers = $0 })
            try group.run()
            #expect(answers == [0, 1])
            try waitUntilRefused(port: port)
        }
    }

    /// Whichever call meets the limit, on whichever loop.
    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `listens on no loop if one has no descriptor for it`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) async {
        await #expect(processExitsWith: .success) { [engine, distribution] in
            let group = try EventLoop.Group(engine: engine, count: 2)
            var failures = 0
            for room in 0..<10 {
                do {
                    let listener = try withRoom(forDescriptors: room) {
                        try group.listen(on: .ipv4("127.0.0.1", port: 0), distribution: distribution) { _ in { _ in } }
                    }
                    listener.close()
                } catch let error as IOError where error.name == "EMFILE" {
                    failures += 1
                }
                try group.run()
            }
            guard failures >= 2, failures < 10 else { throw IOError(call: "\(failures) failures", errno: EINVAL) }
        }
    }

    @Test(arguments: Engine.allCases)
    func `collects the answers of its loops, without those that have ended`(engine: Engine) throws {
        var options = EventLoop.Options()
        options.collectsMetrics = true
        let group = try EventLoop.Group(engine: engine, count: 3, options: options)
        var ended = false
        group.onLoopEnd = { _, _, _ in ended = true }
        group.members[1].execute { $0.stop() }
        try group.loop.run(until: { ended })
        var indices: [Int?] = []
        var metrics: [EventLoop.Metrics?] = []
        group.collect({ $0.indexInGroup ?? -1 }, then: { indices = $0 })
        group.metrics {
            metrics = $0
            // Slower than any other callback of this loop.
            let end = ContinuousClock.now + .milliseconds(50)
            while ContinuousClock.now < end {}
        }
        #expect(indices.isEmpty, "no callback inside a call")
        try group.run()
        #expect(indices == [0, nil, 2])
        #expect(metrics.count == 3 && metrics[1] == nil && (metrics[0]?.callbacks ?? 0) > 0)
        #expect(group.loop.metrics.longestCallback?.kind == .group)
    }
}

/// Loops that end at a moment of a seed's choice while clients come from eight threads.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Loops of a group that end under load` {
    @Test(.heavy, arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `leave the rest to serve, and every client is served or reset`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        var random = SplitMix64(seed: 11)
        for _ in 0..<size("CALLBACKSERVER_GROUP_ROUNDS", orElse: 1) {
            let stage = try GroupStage(engine, count: 4, distribution)
            let (port, tally) = (stage.port, stage.tally)
            let threads = (0..<8).map { _ in
                onThread {
                    for _ in 0..<25 {
                        guard let client = try? PlainClient(port: port) else { return }
                        do {
                            _ = try client.receiveLine()
                        } catch {
                            // Served by nobody: never a clean end.
                            #expect((error as? PeerError)?.errno == ECONNRESET, "\(error)")
                            continue
                        }
                        try? client.echoExactly(1_000)
                    }
                }
            }
            var left = [0, 1, 2, 3].shuffled(using: &random)
            let moment = Int.random(in: 0..<60, using: &random)
            try stage.group.loop.run(until: { tally.served.load(ordering: .relaxed) >= moment })
            for _ in 0..<3 { stage.group.members[left.removeLast()].execute { $0.stop() } }
            try stage.group.loop.run(until: { threads.allSatisfy(\.isFinished) })
            for thread in threads { try thread.value() }
            try stage.group.loop.run(until: { stage.listener.connectionCount == 0 })
            #expect(tally.misplaced.load(ordering: .relaxed) == 0)
            try stage.end()
        }
    }

    /// Descriptors and threads are the process's.
    @Test(arguments: Engine.allCases)
    func `leave no descriptor and no thread behind`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            var descriptors: Set<String> = []
            var random = SplitMix64(seed: 5)
            for round in 0..<size("CALLBACKSERVER_GROUP_ROUNDS", orElse: 4) {
                for distribution in EventLoop.Group.Distribution.allCases {
                    var stage: GroupStage? = try GroupStage(engine, count: 3, distribution)
                    let (port, tally) = (try #require(stage?.port), try #require(stage?.tally))
                    let threads = (0..<4).map { _ in
                        onThread {
                            for _ in 0..<5 { _ = try? groupClient(port).client.echoExactly(10) }
                        }
                    }
                    let moment = Int.random(in: 0..<15, using: &random)
                    try stage?.group.loop.run(until: { tally.served.load(ordering: .relaxed) >= moment })
                    stage?.group.members[Int.random(in: 0..<3, using: &random)].execute { $0.stop() }
                    // In the middle: clients may be on their way.
                    stage = nil
                    for thread in threads { try thread.value() }
                }
                waitUntil("end of the threads") {
                    (try? threadNames().contains { $0.hasPrefix("loop ") }) == false
                }
                let now = Set(try openDescriptors().values)
                if round == 0 { descriptors = now } else { #expect(now.subtracting(descriptors) == []) }
            }
        }
    }
}
