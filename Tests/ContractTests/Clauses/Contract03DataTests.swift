import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 3: data` {
    @Test(arguments: Engine.allCases)
    func `every byte comes back, NULs included`(engine: Engine) throws {
        let stage = try Stage(engine, serve: echo)
        let sent = pseudoRandomBytes(count: 300_000, seed: 3) + [UInt8](repeating: 0, count: 10_000)
        let back = try stage.run { port in
            let client = try PlainClient(port: port)
            let reader = onThread { try client.receive(exactly: sent.count) }
            try client.send(sent)
            return try reader.value(timeLimit: .seconds(10))
        }
        #expect(back == sent)
    }

    @Test(arguments: Engine.allCases)
    func `onData never gets zero bytes`(engine: Engine) throws {
        let diary = Diary()
        var sizes: [Int] = []
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, bytes in
                sizes.append(bytes.count)
                connection.pause()
                connection.resume()
                connection.write(bytes)
            }
            diary.follow(connection, reactions)
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            for byte in 0..<100 as Range<UInt8> {
                try client.send([byte])
                _ = try client.receive(exactly: 1)
            }
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(sizes == [Int](repeating: 1, count: 100))
        #expect(diary.bytes == Array(0..<100))
        diary.expectOrder()
    }

    enum Stopping: CaseIterable { case pause, close, reset, closeWithQueue }

    @Test(arguments: Engine.allCases, Stopping.allCases)
    func `stopped from inside onData, no more data comes although much is waiting`(
        engine: Engine, stopping: Stopping
    ) throws {
        let diary = Diary()
        let options = Listener.Options.connections { $0.receiveBufferSize = 1 << 20 }
        weak var loop: EventLoop?
        var readBefore: Int?
        let stage = try Stage(engine, options: options) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                // More than any engine reads at a time, so that its next read would succeed at once.
                waitForInput(connection.descriptor, atLeast: 200_000)
                switch stopping {
                case .pause: connection.pause()
                case .close: connection.close()
                case .reset: connection.reset()
                case .closeWithQueue:
                    connection.write([UInt8](repeating: 1, count: 16 << 20))
                    connection.close()
                }
                readBefore = diary.bytes.count
                // Time for many turns; then it is over in any case.
                loop?.schedule(after: .milliseconds(30)) { _ in connection.reset() }
            }
            diary.follow(connection, reactions)
        }
        loop = stage.loop
        try stage.run { port in
            let client = try PlainClient(port: port)
            let bytes = pseudoRandomBytes(count: 2 << 20)
            // The server may reset before all has left.
            try? client.send(bytes)
            _ = try client.receiveUntilOver()
        }
        #expect(readBefore != nil && diary.bytes.count == readBefore)
        #expect(diary.closeReasons == [stopping == .close || stopping == .closeWithQueue ? .localClose : .localReset])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `resume goes on where pause stopped, and loses nothing`(engine: Engine) throws {
        let diary = Diary()
        weak var loop: EventLoop?
        var pauses = 0
        var isPaused = false
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                #expect(!isPaused, "contract clause 3: data after pause()")
                connection.pause()
                // Every other time for a while, else from the next turn on.
                pauses += 1
                isPaused = true
                loop?.schedule(after: pauses.isMultiple(of: 2) ? .milliseconds(1) : .zero) { _ in
                    isPaused = false
                    connection.resume()
                }
            }
            diary.follow(connection, reactions)
        }
        loop = stage.loop
        let sent = pseudoRandomBytes(count: 1 << 20, seed: 33)
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send(sent)
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(diary.bytes == sent)
        #expect(pauses > 1)
        #expect(diary.closeReasons == [.peerClosed])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `paused before onConnection returns, a connection reads nothing until resume`(engine: Engine) throws {
        let diary = Diary()
        weak var loop: EventLoop?
        var readWhilePaused: Int?
        let stage = try Stage(engine) { connection in
            diary.follow(connection)
            connection.pause()
            waitForInput(connection.descriptor, atLeast: 5)
            loop?.schedule(after: .milliseconds(20)) { _ in
                readWhilePaused = diary.bytes.count
                connection.resume()
            }
        }
        loop = stage.loop
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("hello")
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(readWhilePaused == 0)
        #expect(diary.events == [.data(5), .end, .close(.peerClosed)])
    }

    @Test(arguments: Engine.allCases)
    func `onData replaced inside onData: the new one gets the next bytes, the old one may come back`(
        engine: Engine
    ) throws {
        var lines: [String] = []
        weak var released: Token?
        let stage = try Stage(engine) { connection in
            let token = Token()
            released = token
            connection.onData = { connection, bytes in
                // Replaced while it runs, its captures must last until it returns.
                let first = connection.onData
                connection.onData = { connection, bytes in
                    lines.append("second: " + String(decoding: [UInt8](copying: bytes), as: UTF8.self))
                    connection.onData = first
                    connection.write("2")
                }
                withExtendedLifetime(token) {
                    lines.append("first: " + String(decoding: [UInt8](copying: bytes), as: UTF8.self))
                }
                connection.write("1")
            }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            for (line, answer) in [("a", "1"), ("b", "2"), ("c", "1"), ("d", "2")] {
                try client.send(line)
                #expect(try client.receive(exactly: 1) == Array(answer.utf8))
            }
        }
        #expect(lines == ["first: a", "second: b", "first: c", "second: d"])
        #expect(released == nil)
    }

    @Test(arguments: Engine.allCases)
    func `without onData, bytes are read, counted and dropped`(engine: Engine) throws {
        let count = 1 << 20
        var bytesRead: UInt64?
        let stage = try Stage(engine) { connection in
            // Also when it is taken away while it runs.
            connection.onData = { connection, _ in connection.onData = nil }
            connection.onEnd = { bytesRead = $0.bytesRead }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send([UInt8](repeating: 5, count: count))
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(bytesRead == UInt64(count))
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `after the peer's reset was met by a write, pause and close still hold`(engine: Engine, closes: Bool) throws {
        let diary = Diary()
        weak var loop: EventLoop?
        var callsWhileStopped = 0
        var isStopped = false
        let options = Listener.Options.connections { $0.receiveBufferSize = 1 << 20 }
        let count = 300_000
        let stage = try Stage(engine, options: options) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                if isStopped { callsWhileStopped += 1 }
                waitForHangUp(connection.descriptor)
                connection.write([UInt8](repeating: 1, count: 100_000))
                isStopped = true
                if closes { return connection.close() }
                connection.pause()
                loop?.schedule(after: .milliseconds(1)) { _ in
                    isStopped = false
                    connection.resume()
                }
            }
            diary.follow(connection, reactions)
        }
        loop = stage.loop
        stage.mayEnd = { diary.isClosed }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send(pseudoRandomBytes(count: count))
            // All of it has arrived when the kernel has nothing left to send, and the reset cannot overtake it.
            try client.waitUntilAcknowledged()
            try client.reset()
        }
        #expect(callsWhileStopped == 0, "contract clause 3")
        if !closes { #expect(diary.bytes.count == count, "contract clause 11: the kernel held all of it") }
        #expect(diary.closeReasons == [.peerReset])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, [100, 100_000])
    func `what came before a reset is delivered, though the greeting can no longer be sent`(
        engine: Engine, greeting: Int
    ) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            diary.follow(connection)
            waitForHangUp(connection.descriptor)
            connection.write([UInt8](repeating: 1, count: greeting))
        }
        // The client is gone before it is accepted, perhaps.
        stage.mayEnd = { diary.isClosed }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("farewell")
            try client.waitUntilAcknowledged()
            try client.reset()
        }
        #expect(diary.events == [.data(8), .close(.peerReset)], "contract clause 11")
    }

    @Test(arguments: Engine.allCases)
    func `paused, a connection or a listener still keeps the loop running`(engine: Engine) throws {
        let diary = Diary()
        let loop = try EventLoop(engine: engine)
        weak var listener: Listener?
        let options = Listener.Options.connections { $0.timeouts.idle = .milliseconds(20) }
        listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { connection in
            diary.follow(connection)
            connection.pause()
            listener?.close()
        }
        let port = UInt16(try #require(listener?.localAddress.port))
        listener?.pause()
        let resume = loop.schedule(after: .milliseconds(5)) { _ in listener?.resume() }
        // Only the listener and the connection are to hold the loop. The timers run as long as they do.
        resume.unref()
        let client = try PlainClient(port: port)
        try loop.run()
        #expect(diary.events == [.timeout(.idle), .close(.timedOut(.idle))])
        try client.expectEnd()
    }
}
