import CallbackServer
import CallbackTLS
import TestSupport
import Testing

/// Clauses 1, 3, 4 and 11 where bytes wait in more places than without TLS.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Reading over TLS` {
    @Test(arguments: Engine.allCases)
    func `delivers what came behind the handshake, after onOpen`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let client = try stage.connect()
        client.connection.write("early")
        try stage.run(until: { stage.served.first?.text == "early" })
        #expect(stage.served[0].events == ["open", "data"])
    }

    @Test(arguments: Engine.allCases)
    func `keeps what came behind the handshake when onOpen pauses`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        var isPaused = false
        stage.onConnection = { served in
            served.onOpen = { connection in
                connection.pause()
                isPaused = true
                connection.schedule(after: .milliseconds(50)) { connection, _ in
                    #expect(served.received.isEmpty)
                    isPaused = false
                    connection.resume()
                    #expect(served.received.isEmpty, "not inside the call")
                }
            }
            served.onData = { _, _ in #expect(!isPaused) }
        }
        let client = try stage.connect()
        client.connection.write("early")
        client.connection.end()
        try stage.run(until: { stage.served.first?.isClosed ?? false })
        #expect(stage.served[0].text == "early")
        #expect(stage.served[0].events == ["open", "data", "end", "close"])
        #expect(stage.served[0].reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases)
    func `goes on with the handshake while the user has paused, and delivers after resume`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        stage.onConnection = { $0.connection.pause() }
        let client = try stage.connect()
        client.connection.pause()
        client.connection.write("early")
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        #expect(stage.served[0].received.isEmpty)
        stage.served[0].connection.resume()
        try stage.run(until: { stage.served[0].text == "early" })
    }

    @Test(arguments: Engine.allCases)
    func `tells an end that came with the bytes whose callback pauses, after resume`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        stage.onConnection = { served in
            served.onData = { connection, _ in
                connection.pause()
                connection.schedule(after: .milliseconds(30)) { connection, _ in
                    #expect(served.events.last == "data")
                    connection.resume()
                    #expect(served.events.last == "data", "not inside the call")
                }
            }
        }
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.write("all")
            connection.end()
        }
        try stage.run(until: { stage.served.first?.isClosed ?? false })
        #expect(stage.served[0].events == ["open", "data", "end", "close"])
        #expect(stage.served[0].reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases)
    func `counts bytes in clear`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        stage.onConnection = { $0.echoes = true }
        let payload = pseudoRandomBytes(count: 300_000, seed: 1)
        let client = try stage.connect()
        client.onOpen = { $0.write(payload) }
        client.onData = { [unowned client] connection, _ in
            if client.received.count == payload.count { connection.end() }
        }
        try stage.run(until: { client.isClosed && stage.served.first?.isClosed == true })
        #expect(client.hasReceived(payload))
        for connection in [client.connection, stage.served[0].connection] {
            #expect(connection.bytesRead == 300_000)
            #expect(connection.bytesWritten == 300_000)
            #expect(connection.bytesUnsent == 0)
        }
    }

    /// Records that are cut anywhere: the rest of each waits inside OpenSSL.
    @Test(arguments: Engine.allCases, [1, 7, 1_000])
    func `puts records together that arrive in parts`(engine: Engine, size: Int) throws {
        let stage = try TLSStage(engine)
        stage.onConnection = { $0.echoes = true }
        let parts = try Parts(stage.loop, to: stage.listener.localAddress, size)
        let client = try stage.connect(to: parts.listener.localAddress)
        let payload = pseudoRandomBytes(count: 20_000, seed: 2)
        client.onOpen = { $0.write(payload) }
        try stage.run(until: { client.received.count == payload.count })
        #expect(client.hasReceived(payload))
    }

    /// TLS's end comes in the same read as the lines: it waits behind those that are held.
    @Test(arguments: Engine.allCases, [true, false])
    func `frames lines as without TLS, and tells an end behind them`(engine: Engine, ends: Bool) throws {
        let stage = try TLSStage(engine)
        var lines: [String] = []
        stage.onConnection = { served in
            served.connection.onLines { connection, line in
                lines.append(String(validating: line) ?? "")
                guard lines.count == 2 else { return }
                connection.pause()
                connection.schedule(after: .milliseconds(20)) { connection, _ in
                    #expect(lines.count == 2)
                    connection.resume()
                }
            }
            served.connection.onUnfinishedFrame = { _, _ in lines.append("unfinished") }
        }
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.write("one\ntwo\nthree\nfo")
            guard ends else { return }
            connection.write("ur\n")
            connection.end()
        }
        if ends {
            try stage.run(until: { stage.served.first?.isClosed == true })
            #expect(stage.served[0].reason == .peerClosed)
        } else {
            try stage.run(until: { lines.count == 3 })
            client.connection.write("ur\n")
            try stage.run(until: { lines.count == 4 })
        }
        #expect(lines == ["one", "two", "three", "four"])
    }

    @Test(arguments: Engine.allCases)
    func `tells the end behind more lines than a turn has`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        var lines = 0
        stage.onConnection = { served in served.connection.onLines { _, _ in lines += 1 } }
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.write(String(repeating: "x\n", count: 5_000))
            connection.end()
        }
        try stage.run(until: { stage.served.first?.isClosed == true })
        #expect(lines == 5_000)
        #expect(stage.served[0].reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases)
    func `gives what a framing held, and the end behind it, to onData`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        var told: [String] = []
        stage.onConnection = { served in
            served.connection.onLines { connection, line in
                told.append(String(validating: line) ?? "")
                connection.onData = { told.append(String(validating: $1) ?? "") }
            }
            served.connection.onEnd = { _ in told.append("end") }
        }
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.write("one\ntwo\nrest")
            connection.end()
        }
        try stage.run(until: { stage.served.first?.isClosed == true })
        #expect(told == ["one", "two\nrest", "end"])
    }
}
