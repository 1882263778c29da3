import CallbackServer
import CallbackTLS
import TestSupport
import Testing

/// Clauses 4, 8 and 11: TLS has an end of its own, in front of FIN.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Ending over TLS` {
    @Test(arguments: Engine.allCases)
    func `FIN without TLS's end is a truncation, with its own reason`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        let client = try stage.connect(to: wire.listener.localAddress)
        client.onOpen = { $0.write("half an answer") }
        try stage.run(until: { stage.served.first?.text == "half an answer" })
        wire.server?.end()
        try stage.run(until: { stage.served[0].isClosed })
        #expect(stage.served[0].reason == .truncated)
        #expect(stage.served[0].events == ["open", "data", "close"])
        #expect(stage.failures.isEmpty)
    }

    @Test(arguments: Engine.allCases)
    func `FIN alone is the end for those who ask for it`(engine: Engine) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.acceptsTruncation = true })
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        let client = try stage.connect(to: wire.listener.localAddress)
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        wire.server?.end()
        try stage.run(until: { stage.served[0].isClosed })
        #expect(stage.served[0].reason == .peerClosed)
        #expect(stage.served[0].events == ["open", "end", "close"])
    }

    /// In TLS 1.3 a server's tickets are unread when a client closes at once: the kernel would send RST.
    @Test(arguments: Engine.allCases, TLS.Version.allCases)
    func `a client that closes right after its request is no reset`(engine: Engine, version: TLS.Version) throws {
        let stage = try TLSStage(engine)
        let clients = try (0..<20).map { _ in
            let client = try stage.connect(Certificates.client { $0.maximumVersion = version })
            client.onOpen = { connection in
                connection.write("request")
                connection.close()
            }
            return client
        }
        try stage.run(until: { stage.served.count == 20 && (stage.served + clients).allSatisfy(\.isClosed) })
        #expect(stage.served.allSatisfy { $0.text == "request" && $0.reason == .peerClosed })
        #expect(clients.map(\.reason) == Array(repeating: .localClose, count: 20))
    }

    /// It has read nothing since the handshake, so the server's tickets still wait to be read.
    @Test(arguments: Engine.allCases)
    func `a client that has paused since it opened closes without a reset`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.pause()
            connection.write("request")
            connection.schedule(after: .milliseconds(30)) { connection, _ in connection.close() }
        }
        try stage.run(until: { client.isClosed && stage.served.first?.isClosed == true })
        #expect(client.reason == .localClose)
        #expect(stage.served[0].text == "request" && stage.served[0].reason == .peerClosed)
    }

    /// It sends no tickets, and does not close: nothing comes to end the wait.
    @Test(arguments: Engine.allCases)
    func `a client that closes to a silent server waits for its close time-out, and has closed properly`(
        engine: Engine
    ) throws {
        var listening = Listener.Options()
        listening.connection.allowsHalfOpen = true
        let stage = try TLSStage(engine, Certificates.server { $0.issuesTickets = false }, listening: listening)
        var connecting = EventLoop.ConnectOptions()
        connecting.connection.timeouts.close = .milliseconds(100)
        let client = try stage.connect(options: connecting)
        client.onOpen = { connection in
            connection.write("request")
            connection.close()
        }
        try stage.run(until: { client.isClosed && stage.served.first?.events.last == "end" })
        #expect(client.reason == .localClose)
        #expect(stage.served[0].text == "request")
        stage.served[0].connection.reset()
    }

    /// The layer and what counts handshakes hold each other meanwhile.
    @Test(arguments: Engine.allCases)
    func `a loop that is let go in the middle of handshakes keeps nothing`(engine: Engine) throws {
        final class Token {}
        weak var token: Token?
        do {
            let made = try TLSStage(engine)
            let captured = Token()
            token = captured
            made.listener.onHandshakeFailed = { [captured] _, _ in withExtendedLifetime(captured) {} }
            _ = try made.loop.connect(to: made.listener.localAddress)
            try made.run(until: { made.served.count == 1 && made.listener.handshakeCount == 1 })
        }
        #expect(token == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a time-out says TLS's end where it says FIN`(engine: Engine) throws {
        var listening = Listener.Options()
        listening.connection.timeouts.idle = .milliseconds(50)
        let stage = try TLSStage(engine, listening: listening)
        let client = try stage.connect()
        try stage.run(until: { client.isClosed && stage.served.first?.isClosed == true })
        #expect(stage.served[0].reason == .timedOut(.idle))
        #expect(client.reason == .peerClosed)
        #expect(client.events == ["open", "end", "close"])
    }

    @Test(arguments: Engine.allCases)
    func `a drain's deadline says TLS's end where it says FIN, and resets where it resets`(engine: Engine) throws {
        for forcing in [Listener.Forcing.close, .reset] {
            let stage = try TLSStage(engine)
            let client = try stage.connect()
            try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
            var report: DrainReport?
            stage.listener.drain(within: .milliseconds(20), forcing: forcing) { report = $0 }
            try stage.run(until: { report != nil && client.isClosed })
            #expect(stage.served[0].reason == .drainDeadline)
            #expect(client.reason == (forcing == .close ? .peerClosed : .peerReset))
        }
    }

    @Test(arguments: Engine.allCases)
    func `a loop that is let go says TLS's end`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        var other: EventLoop? = try EventLoop(engine: engine)
        let connection = try other!.connect(to: stage.listener.localAddress, tls: Certificates.client())
        var isOpen = false
        connection.onOpen = { _ in isOpen = true }
        let end = ContinuousClock.now + .seconds(30)
        while !isOpen || stage.served.first?.isOpen != true, ContinuousClock.now < end {
            try stage.loop.run(.noWait)
            try other?.run(.noWait)
        }
        other = nil
        try stage.run(until: { stage.served.first?.isClosed == true })
        #expect(stage.served[0].reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases)
    func `a reset is a reset`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let client = try stage.connect()
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        client.connection.reset()
        try stage.run(until: { stage.served[0].isClosed })
        #expect(stage.served[0].reason == .peerReset)
    }

    /// What came before the peer's reset is read, although a write has met it.
    @Test(arguments: Engine.allCases, [true, false])
    func `a write that meets a reset does not cost what came before it`(engine: Engine, ends: Bool) throws {
        let stage = try TLSStage(engine)
        stage.onConnection = { $0.connection.pause() }
        let client = try stage.connect()
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        client.connection.write("last words")
        if ends { client.connection.end() }
        try stage.run(until: { client.connection.bufferedByteCount == 0 })
        client.connection.reset()
        try stage.run(until: { client.isClosed })
        waitForReset(of: stage.served[0].connection)
        // In one callback, before the loop has looked at what the kernel has.
        stage.loop.schedule(after: .zero) { _ in
            let connection = stage.served[0].connection
            connection.resume()
            connection.write("in vain")
        }
        try stage.run(until: { stage.served[0].isClosed })
        #expect(stage.served[0].text == "last words")
        #expect(stage.served[0].reason == .peerReset)
    }

    @Test(arguments: Engine.allCases)
    func `both sides may finish at the same time`(engine: Engine) throws {
        var listening = Listener.Options()
        listening.connection.allowsHalfOpen = true
        let stage = try TLSStage(engine, listening: listening)
        stage.onConnection = { $0.onOpen = { $0.end() } }
        let client = try stage.connect()
        client.onOpen = { $0.end() }
        try stage.run(until: { client.isClosed && stage.served.first?.isClosed == true })
        #expect(client.events == ["open", "end", "close"])
        #expect(stage.served[0].events == ["open", "end", "close"])
    }
}
