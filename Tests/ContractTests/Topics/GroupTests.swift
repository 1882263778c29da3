import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A group of loops` {
    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `serves each client on one loop, with what that loop has made`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        let stage = try GroupStage(engine, count: 3, distribution)
        try stage.run { port in
            let threads = (0..<4).map { seed in
                onThread {
                    for _ in 0..<10 {
                        let (client, loop) = try groupClient(port)
                        #expect((0..<3).contains(loop))
                        try client.echoExactly(200_000, seed: UInt64(seed + 1))
                    }
                }
            }
            for thread in threads { try thread.value() }
        }
        #expect(stage.tally.served.load(ordering: .relaxed) == 40)
        try stage.end()
        #expect(stage.tally.misplaced.load(ordering: .relaxed) == 0)
        #expect(stage.group.loop.indexInGroup == nil)
    }

    @Test(arguments: Engine.allCases)
    func `hands over the clients of a Unix socket, and removes its file`(engine: Engine) throws {
        for distribution in [EventLoop.Group.Distribution.evenly, .shared] {
            let folder = try TemporaryDirectory()
            let path = folder.path + "/socket"
            let stage = try GroupStage(engine, distribution, on: .unix(path: path))
            try stage.run { _ in
                for _ in 0..<4 {
                    let client = try PlainClient(unixPath: path)
                    _ = try client.receiveLine()
                    try client.echoExactly(300_000)
                }
            }
            try stage.end()
            #expect(access(path, F_OK) != 0)
        }
    }

    // MARK: Spreading

    @Test(.heavy, arguments: Engine.allCases, [2, 4])
    func `evenly: kept connections differ by at most one, also after bursts and losses`(
        engine: Engine, count: Int
    ) throws {
        let stage = try GroupStage(engine, count: count)
        let listener = stage.listener
        // The clients are in this process too, and select(2) takes no number from 1,024 on.
        let total = min(size("CALLBACKSERVER_GROUP_CONNECTIONS", orElse: 32), engine == .select ? 200 : .max)
        var random = SplitMix64(seed: 7)
        var clients: [(client: PlainClient, loop: Int)] = []
        for round in 0..<4 {
            clients += try stage.connect(total - clients.count)
            let counts = listener.connectionCounts
            #expect(counts.reduce(0, +) == total && listener.connectionCount == total)
            #expect(counts == (0..<count).map { loop in clients.count { $0.loop == loop } })
            // Those that left had no say in it: each newcomer went where the fewest were.
            #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 1, "round \(round): \(counts)")
            clients.shuffle(using: &random)
            let rest = Int.random(in: total / 2..<total, using: &random)
            // No loop loses more than the newcomers can make up for.
            clients.removeLast(total - rest)
            try stage.group.loop.run(until: { listener.connectionCount == rest })
        }
        clients = []
        try stage.group.loop.run(until: { listener.connectionCount == 0 })
        try stage.end()
    }

    @Test(arguments: Engine.allCases)
    func `evenly: clients that come one after another take the loops in turn`(engine: Engine) throws {
        let stage = try GroupStage(engine, count: 3)
        let listener = stage.listener
        var loops: [Int] = []
        for _ in 0..<6 {
            let port = stage.port
            let thread = onThread { try groupClient(port).loop }
            try stage.group.loop.run(until: { thread.isFinished && listener.connectionCount == 0 })
            loops.append(try thread.value())
        }
        #expect(loops == [0, 1, 2, 0, 1, 2])
        try stage.end()
    }

    // MARK: Limits

    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `never has more connections than the limit, and serves whoever waits`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        var options = Listener.Options()
        options.maxConnections = 3
        let stage = try GroupStage(engine, count: 3, distribution, options: options)
        // Between its first line and its own close a client is surely connected.
        let connected = Gauge()
        try stage.run { port in
            let threads = (0..<12).map { _ in
                onThread {
                    for _ in 0..<5 {
                        let client = try groupClient(port).client
                        connected.change(by: 1)
                        try client.echoExactly(10)
                        connected.change(by: -1)
                    }
                }
            }
            for thread in threads { try thread.value() }
        }
        #expect(stage.tally.served.load(ordering: .relaxed) == 60)
        #expect((2...3).contains(connected.most), "\(connected.most) at once")
        try stage.end()
    }

    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `turns away those beyond the limit, and counts them`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        var options = Listener.Options()
        options.maxConnections = 2
        options.beyondMaxConnections = .refuse
        let stage = try GroupStage(engine, count: 2, distribution, options: options)
        var shed = 0
        stage.listener.onShed = { _, told in
            #expect(told.cause == .maxConnections)
            shed += told.count
        }
        let port = stage.port
        let thread = onThread {
            let kept = try (0..<2).map { _ in try groupClient(port) }
            for _ in 0..<5 {
                let (bytes, _) = try PlainClient(port: port).receiveUntilOver()
                #expect(bytes.isEmpty)
            }
            return kept.count
        }
        try stage.group.loop.run(until: { thread.isFinished && shed == 5 && stage.listener.connectionCount == 0 })
        #expect(try thread.value() == 2)
        #expect(stage.tally.served.load(ordering: .relaxed) == 2)
        try stage.end()
    }

    @Test(arguments: Engine.allCases)
    func `pauses on every loop`(engine: Engine) throws {
        for distribution in EventLoop.Group.Distribution.allCases {
            let stage = try GroupStage(engine, count: 2, distribution)
            stage.listener.pause()
            // Behind the pause of every loop.
            var isPaused = false
            stage.group.collect({ _ in true }, then: { isPaused = $0.allSatisfy { $0 == true } })
            try stage.group.loop.run(until: { isPaused })
            let client = try PlainClient(port: stage.port)
            try stage.group.loop.run(until: { waitingClients(port: stage.port) == 1 })
            #expect(stage.listener.connectionCount == 0)
            stage.listener.resume()
            try stage.run { _ in
                _ = try client.receiveLine()
                try client.echoExactly(10)
                client.close()
            }
            try stage.end()
        }
    }

    // MARK: What goes wrong

    @Test(arguments: Engine.allCases)
    func `refuses what cannot be, and then listens nowhere`(engine: Engine) throws {
        for count in [0, 1_025] {
            let error = #expect(throws: IOError.self) { try EventLoop.Group(engine: engine, count: count) }
            #expect(error?.name == "EINVAL" && "\(error!)".contains("\(count)"))
        }
        let group = try EventLoop.Group(engine: engine, count: 2)
        let folder = try TemporaryDirectory()
        let unix = #expect(throws: IOError.self) {
            try group.listen(on: .unix(path: folder.path + "/s"), distribution: .byKernel) { _ in { _ in } }
        }
        #expect(unix?.name == "EINVAL")
        let first = try group.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in { _ in } }
        for distribution in EventLoop.Group.Distribution.allCases {
            let error = #expect(throws: IOError.self) {
                try group.listen(on: first.localAddress, distribution: distribution) { _ in { _ in } }
            }
            #expect(error?.name == "EADDRINUSE")
        }
        var wrong = Listener.Options()
        wrong.backlog = 0
        #expect(throws: IOError.self) {
            try group.listen(on: .ipv4("127.0.0.1", port: 0), options: wrong) { _ in { _ in } }
        }
        first.close()
        // Nothing is left to run for.
        try group.run()
    }

    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `serves on when a loop ends, and says which`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        let stage = try GroupStage(engine, count: 3, distribution)
        var ended: [Int] = []
        stage.group.onLoopEnd = { _, index, error in
            #expect(error == nil)
            ended.append(index)
        }
        let (port, listener) = (stage.port, stage.listener)
        let clients = try stage.connect(30)
        #expect(stage.group.members[1].execute { $0.stop() })
        try stage.group.loop.run(until: { ended == [1] })
        #expect(!stage.group.members[1].execute { _ in })
        #expect(listener.connectionCounts[1] == 0)
        let peers = onThread {
            for (client, loop) in clients {
                if loop == 1 {
                    #expect(try client.receiveUntilOver().bytes.isEmpty)
                } else {
                    try client.echoExactly(10)
                }
            }
            for _ in 0..<20 { #expect(try groupClient(port).loop != 1) }
        }
        try stage.group.loop.run(until: { peers.isFinished })
        try peers.value()
        withExtendedLifetime(clients) {}
        // The last one takes the listener with it.
        var isClosed = false
        listener.onClose = { _ in isClosed = true }
        for index in [0, 2] { stage.group.members[index].execute { $0.stop() } }
        try stage.group.run()
        #expect(ended.sorted() == [0, 1, 2] && isClosed)
        try waitUntilRefused(port: port)
    }

    @Test(arguments: Engine.allCases)
    func `names a loop that hangs, gives it no client, and says when it is over`(engine: Engine) throws {
        let stage = try GroupStage(engine, count: 2)
        var hangs: [EventLoop.Group.Hang] = []
        stage.group.onHang(longerThan: .milliseconds(100)) { hangs.append($0) }
        let mayGoOn = Flag()
        stage.group.members[0].execute { _ in mayGoOn.wait() }
        try stage.group.loop.run(until: { hangs.contains { $0.loop == 0 && !$0.isOver } })
        #expect(hangs.allSatisfy { $0.duration >= .milliseconds(100) })
        #expect(try stage.connect(6).map(\.loop) == [1, 1, 1, 1, 1, 1])
        mayGoOn.set()
        try stage.group.loop.run(until: { hangs.contains { $0.loop == 0 && $0.isOver } })
        #expect(hangs.filter { $0.loop == 0 }.map(\.isOver).prefix(2) == [false, true])
        // Another watch knows nothing of this one's questions.
        var later: [EventLoop.Group.Hang] = []
        stage.group.onHang(longerThan: .milliseconds(300)) { later.append($0) }
        let again = Flag()
        stage.group.members[1].execute { _ in again.wait() }
        try stage.group.loop.run(until: { later.contains { $0.loop == 1 } })
        again.set()
        try stage.group.loop.run(until: { later.contains { $0.loop == 1 && $0.isOver } })
        try stage.end()
    }

    /// The part that one loop has is the user's too.
    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `serves on when the part of one loop is closed`(
        engine: Engine, distribution: EventLoop.Group.Distribution
    ) throws {
        let stage = try GroupStage(engine, count: 2, distribution)
        let first = try #require(try stage.connect(1).first)
        stage.tally.rooms.withLock { $0[first.loop] }?.execute { $0.listener?.close() }
        var isClosed = false
        stage.group.collect({ _ in true }, then: { _ in isClosed = true })
        try stage.group.loop.run(until: { isClosed })
        let clients = try stage.connect(20)
        #expect(clients.allSatisfy { $0.loop != first.loop })
        first.client.close()
        for client in clients { client.client.close() }
        try stage.end()
    }
}
