import CallbackServer
import Glibc
import TestSupport
import Testing

/// Time-outs and the loop: what they cost, how they are ordered, and a loop that is kept busy.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Time-outs of many connections` {
    @Test(.heavy, arguments: Engine.allCases)
    func `1,000 with different deadlines pass in their order, and at rest cost no turn`(engine: Engine) async {
        // 2,000 descriptors, which a process of its own may have.
        await #expect(processExitsWith: .success) { [engine] in
            // select(2) needs the loop's own descriptors below 1,024, and there are others.
            let count = engine == .select ? 700 : 1_000
            var options = EventLoop.Options()
            options.collectsMetrics = true
            let scene = try StepStage(engine, loop: options)
            var order: [Int] = []
            var times: [Duration] = []
            var peers: [PlainClient] = []
            var connections: [Connection] = []
            for number in 0..<count {
                let (connection, peer) = try scene.connect {
                    $0.options.timeouts.idle = .seconds(60)
                    $0.onTimeout = { _, _ in
                        order.append(number)
                        times.append(monotonicTime())
                        return .close
                    }
                }
                connections.append(connection)
                peers.append(peer)
            }
            try scene.settle()
            let before = scene.loop.metrics.turns
            scene.loop.schedule(after: .milliseconds(300)) { [loop = scene.loop] _ in loop.stop() }
            try scene.loop.run()
            let turns = scene.loop.metrics.turns - before
            #expect(turns <= 3, "\(turns) turns at rest")
            // In another order than they were made: 389 is prime.
            let deadlines = (0..<count).map { ($0 * 389) % count }
            // Changed inside one callback, in whose turn time may pass: so far apart that it does not matter.
            var start = Duration.zero
            scene.loop.schedule(after: .zero) { _ in
                start = monotonicTime()
                for (connection, place) in zip(connections, deadlines) {
                    connection.options.timeouts.idle = .milliseconds(300 + place * 2)
                }
            }
            try scene.loop.run(until: { order.count == count })
            let places = order.map { deadlines[$0] }
            // What was set later within the same callback counts from later: by as long as the callback took.
            let isSorted = zip(places, places.dropFirst()).allSatisfy { $0 < $1 + 50 }
            // On a machine that stood still in between, those that were late have more time, and not all the same.
            let latest = zip(times, places).map { $0 - start - .milliseconds(300 + $1 * 2) }.max()
            #expect(isSorted || latest ?? .zero >= .milliseconds(90), "\(places)")
            #expect(Set(order).count == count, "each once")
            withExtendedLifetime(peers) {}
        }
    }

    @Test(arguments: Engine.allCases)
    func `are not early for what another callback has kept waiting`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let limit = Duration.milliseconds(150)
        var last: [ObjectIdentifier: Duration] = [:]
        var told: [Duration] = []
        var isSlow = true
        func prepare(_ connection: Connection) {
            connection.options.timeouts.idle = limit
            connection.onData = { connection, _ in
                if isSlow { observe(for: .milliseconds(250)) }
                isSlow = false
                last[ObjectIdentifier(connection)] = monotonicTime()
            }
            connection.onTimeout = { connection, _ in
                told.append(monotonicTime() - (last[ObjectIdentifier(connection)] ?? .zero))
                return .close
            }
        }
        let pairs = try [scene.connect(prepare), scene.connect(prepare)]
        for pair in pairs {
            try pair.peer.send("x")
            waitForInput(pair.connection.descriptor, atLeast: 1)
        }
        try scene.runUntilClosed(pairs[0].connection, pairs[1].connection)
        #expect(last.count == 2)
        #expect(told.allSatisfy { $0 >= limit }, "\(told)")
    }

    @Test(arguments: Engine.allCases)
    func `count from the end of a slow onConnection`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.timeouts.idle = .milliseconds(150) })
        var opened = Duration.zero
        let (connection, _) = try scene.connect { _ in
            observe(for: .milliseconds(250))
            opened = monotonicTime()
        }
        try scene.runUntilClosed(connection)
        #expect(monotonicTime() - opened >= .milliseconds(150))
    }

    @Test(arguments: Engine.allCases)
    func `closed with bytes queued inside onTimeout, a connection still flushes them`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        let count = 3 << 20
        connection.onTimeout = { connection, _ in
            connection.write([UInt8](repeating: 1, count: count))
            connection.close()
            return .close
        }
        connection.options.timeouts.idle = .milliseconds(20)
        let received = try scene.run { try peer.receiveUntilEnd() }
        #expect(received.count == count)
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `one that ends the wait for a peer's FIN is told as the cause`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        connection.options.timeouts.idle = .milliseconds(30)
        connection.end()
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.idle))
        peer.close()
    }
}
