import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 12: accepting` {
    @Test(arguments: Engine.allCases, [nil, 1, 5, 64])
    func `at most acceptsPerWakeup clients between other events`(engine: Engine, limit: Int?) throws {
        var options = Listener.Options()
        if let limit { options.acceptsPerWakeup = limit }
        var inThisTurn = 0
        var most = 0
        var total = 0
        let stage = try Stage(engine, options: options) { connection in
            inThisTurn += 1
            total += 1
            connection.close()
        }
        // All of them wait in the backlog before the loop runs.
        let clients = try (0..<100).map { _ in try PlainClient(port: stage.port) }
        let counter = TurnCounter(stage.loop)
        counter.onTurn = { _ in
            most = max(most, inThisTurn)
            inThisTurn = 0
        }
        try stage.run(until: { total == clients.count && inThisTurn == 0 })
        counter.stop()
        #expect(most <= limit ?? 16)
        // Fewer would be allowed, but then this test could not tell a limit from slowness.
        #expect(most == limit ?? 16)
    }

    @Test(arguments: Engine.allCases)
    func `beyond maxConnections clients wait, and are served in turn`(engine: Engine) throws {
        var options = Listener.Options()
        options.maxConnections = 3
        var most = 0
        var closedCount = 0
        let stage = try Stage(engine, options: options)
        let listener = try stage.loop.listen(options: options) { connection in
            echo(connection)
            connection.onClose = { _, _ in closedCount += 1 }
        }
        var shed: [Listener.Shed] = []
        listener.onShed = { shed.append($1) }
        let clients = try (0..<9).map { index in
            let client = try PlainClient(port: listener.port)
            try client.send([UInt8(index)])
            return client
        }
        let counter = TurnCounter(stage.loop)
        counter.onTurn = { _ in most = max(most, listener.connectionCount) }
        let peers = onThread {
            for (index, client) in clients.enumerated() {
                let back = try client.receive(exactly: 1)
                #expect(back == [UInt8(index)])
                // The clients behind those being served have got nothing.
                if index + 3 < clients.count { #expect(try clients[index + 3].hasNothing()) }
                client.close()
            }
        }
        try stage.run(until: { peers.isFinished && closedCount == clients.count })
        counter.stop()
        try peers.value()
        #expect(most == 3)
        #expect(shed == [])
    }

    @Test(arguments: Engine.allCases)
    func `beyond maxConnections clients are refused, and counted exactly`(engine: Engine) throws {
        var options = Listener.Options()
        options.maxConnections = 2
        options.beyondMaxConnections = .refuse
        let stage = try Stage(engine, options: options, serve: echo)
        var shed = 0
        var causes: Set<Listener.Shed.Cause> = []
        stage.listener.onShed = { _, these in
            #expect(these.count > 0)
            shed += these.count
            causes.insert(these.cause)
        }
        let served = try (0..<2).map { _ in try PlainClient(port: stage.port) }
        try stage.run(until: { stage.listener.connectionCount == 2 })
        let refused = try (0..<50).map { _ in try PlainClient(port: stage.port) }
        try stage.run(until: { shed == refused.count })
        #expect(causes == [.maxConnections])
        for client in refused { #expect(try client.receiveUntilOver().bytes == []) }
        // Those that were there are served as before; when one has gone, so is a new one.
        served[0].close()
        try stage.run(until: { stage.listener.connectionCount == 1 })
        let new = try PlainClient(port: stage.port)
        try stage.run(until: { stage.listener.connectionCount == 2 })
        let peers = onThread {
            for client in [served[1], new] {
                try client.send("still served")
                #expect(try client.receive(exactly: 12) == Array("still served".utf8))
                client.close()
            }
        }
        try stage.run(until: { peers.isFinished && stage.listener.connectionCount == 0 })
        try peers.value()
        #expect(shed == refused.count)
    }

    @Test(arguments: Engine.allCases)
    func `a paused listener leaves clients in the backlog until it is resumed`(engine: Engine) throws {
        var accepted = 0
        let stage = try Stage(engine) { connection in
            accepted += 1
            echo(connection)
        }
        stage.listener.pause()
        stage.listener.pause()
        let clients = try (0..<5).map { _ in try PlainClient(port: stage.port) }
        try runTurns(20, of: stage.loop)
        #expect(accepted == 0)
        stage.listener.resume()
        stage.listener.resume()
        try stage.run(until: { accepted == 5 })
        let peers = onThread {
            for client in clients {
                try client.echoExactly(1_000)
                client.close()
            }
        }
        try stage.run(until: { peers.isFinished && stage.listener.connectionCount == 0 })
        try peers.value()
    }

    @Test(arguments: Engine.allCases)
    func `pausing in onConnection takes no further client`(engine: Engine) throws {
        var stage: Stage!
        var accepted = 0
        stage = try Stage(engine) { connection in
            accepted += 1
            stage.listener.pause()
            connection.close()
        }
        let clients = try (0..<5).map { _ in try PlainClient(port: stage.port) }
        for expected in 1...clients.count {
            try runTurns(10, of: stage.loop)
            #expect(accepted == expected)
            stage.listener.resume()
        }
        // The listener's callback holds the stage, and so the loop: closing it lets go of both.
        stage.listener.close()
        try stage.loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `closing in onConnection takes no further client`(engine: Engine) throws {
        var stage: Stage!
        var accepted = 0
        stage = try Stage(engine) { connection in
            accepted += 1
            stage.listener.close()
            echo(connection)
        }
        let first = try PlainClient(port: stage.port)
        let others = try (0..<4).map { _ in try PlainClient(port: stage.port) }
        let peers = onThread {
            try first.echoExactly(1_000)
            first.close()
            // The kernel resets what was in the backlog.
            for client in others { #expect(try client.receiveUntilOver().bytes == []) }
        }
        // Nothing is left then, and the run ends by itself.
        try stage.loop.run()
        try peers.value()
        #expect(accepted == 1)
    }

    @Test(arguments: Engine.allCases)
    func `a client that gave up in the backlog harms nobody`(engine: Engine) throws {
        var reasons: [CloseReason] = []
        let stage = try Stage(engine) { connection in
            echo(connection)
            connection.onClose = { reasons.append($1) }
        }
        for index in 0..<8 {
            let client = try PlainClient(port: stage.port)
            if index.isMultiple(of: 2) { try client.reset() } else { client.close() }
        }
        let last = try PlainClient(port: stage.port)
        let peer = onThread {
            try last.echoExactly(1_000)
            last.close()
        }
        try stage.run(until: { peer.isFinished && reasons.count >= 5 && stage.listener.connectionCount == 0 })
        try peer.value()
        // Whether a reset client still comes out of accept(2) is the kernel's affair; if it does, it is told.
        #expect(reasons.filter { $0 == .peerClosed }.count == 5)
        #expect(reasons.allSatisfy { $0 == .peerClosed || $0 == .peerReset })
    }
}

/// Runs so many turns, whatever happens in them.
func runTurns(_ count: Int, of loop: EventLoop) throws {
    let counter = TurnCounter(loop)
    counter.onTurn = { if $0 > count { loop.stop() } }
    try loop.run()
    counter.stop()
}

extension PlainClient {
    /// Whether nothing has come: no bytes, no FIN, no reset.
    fileprivate func hasNothing() throws -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) == 0
    }
}
