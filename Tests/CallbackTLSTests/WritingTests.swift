import CallbackServer
import CallbackTLS
import TestSupport
import Testing

/// Clauses 5 to 8: the driver counts records, and users count what they wrote.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Writing over TLS` {
    @Test(arguments: Engine.allCases)
    func `counts what waits in clear, and completes a write when its last record has left`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        var options = Connection.Options()
        options.sendBufferSize = 32 * 1024
        stage.onConnection = { served in
            served.connection.pause()
        }
        var connecting = EventLoop.ConnectOptions()
        connecting.connection = options
        let client = try stage.connect(options: connecting)
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        let connection = client.connection
        var completed: [Int] = []
        let piece = pseudoRandomBytes(count: 100_000, seed: 3)
        for number in 0..<20 {
            let status = connection.write(piece) { result in
                #expect(result == .sent)
                #expect(connection.bytesWritten >= UInt64(100_000 * (number + 1)))
                completed.append(number)
            }
            if number == 19 { #expect(status == .saturated) }
            let sum = Int(connection.bytesWritten) + connection.bufferedByteCount
            #expect(sum == 100_000 * (number + 1))
        }
        #expect(connection.bufferedByteCount > 100_000)
        #expect(completed.count < 20)
        stage.served[0].connection.resume()
        try stage.run(until: { stage.served[0].received.count == 2_000_000 && completed.count == 20 })
        #expect(completed == Array(0..<20))
        #expect(connection.bufferedByteCount == 0)
        #expect(client.events == ["open", "drain"])
        #expect(stage.served[0].hasReceived((0..<20).flatMap { _ in piece }))
    }

    @Test(arguments: Engine.allCases)
    func `close sends what is queued and a proper end`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let payload = pseudoRandomBytes(count: 3_000_000, seed: 4)
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.write(payload)
            connection.close()
        }
        try stage.run(until: { stage.served.first?.isClosed == true && client.isClosed })
        #expect(stage.served[0].hasReceived(payload))
        #expect(stage.served[0].reason == .peerClosed)
        #expect(client.reason == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `close before the handshake sends what was written`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let client = try stage.connect()
        client.connection.write("early")
        client.connection.close()
        try stage.run(until: { stage.served.first?.isClosed == true && client.isClosed })
        #expect(stage.served[0].text == "early")
        #expect(stage.served[0].reason == .peerClosed)
        #expect(client.events == ["close"])
        #expect(client.reason == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `end before the handshake sends what was written, and reads on`(engine: Engine) throws {
        var listening = Listener.Options()
        listening.connection.allowsHalfOpen = true
        let stage = try TLSStage(engine, listening: listening)
        stage.onConnection = { served in
            served.connection.onEnd = { connection in
                connection.write("answer to \(served.text)")
                connection.end()
            }
        }
        let client = try stage.connect()
        client.connection.write("early")
        client.connection.end()
        try stage.run(until: { stage.served.first?.isClosed == true && client.isClosed })
        #expect(client.text == "answer to early")
        #expect(client.reason == .localClose)
        #expect(stage.served[0].reason == .peerClosed)
    }

    /// Many small writes of one callback are one record, so that an eavesdropper counts callbacks and not writes.
    @Test(arguments: Engine.allCases)
    func `writes of one callback leave together`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        let client = try stage.connect(to: wire.listener.localAddress)
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        let before = wire.fromClient
        stage.loop.schedule(after: .zero) { _ in
            for _ in 0..<100 { client.connection.write("0123456789") }
        }
        try stage.run(until: { stage.served[0].received.count == 1_000 })
        #expect(wire.fromClient - before < 1_000 + 100)
    }

    /// The loop's limit, while records are made of a large write.
    @Test(arguments: Engine.allCases)
    func `is shed in the middle of a write, and others are not`(engine: Engine) throws {
        var options = EventLoop.Options()
        options.maxQueuedBytes = 1 << 20
        let stage = try TLSStage(engine, loop: options)
        stage.onConnection = { $0.connection.pause() }
        let client = try stage.connect()
        let other = try stage.connect()
        try stage.run(until: { client.isOpen && other.isOpen })
        client.connection.write(pseudoRandomBytes(count: 20_000_000, seed: 5))
        try stage.run(until: { client.isClosed })
        #expect(client.reason == .shed)
        #expect(client.connection.bytesWritten + client.connection.bytesUnsent == 20_000_000)
        stage.served.forEach { $0.connection.resume() }
        other.connection.write("still here")
        try stage.run(until: { stage.served.contains { $0.text == "still here" } })
    }

    @Test(arguments: Engine.allCases)
    func `a write after end or close is refused`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let client = try stage.connect()
        try stage.run(until: { client.isOpen })
        client.connection.end()
        #expect(client.connection.write("late") == .closed)
        try stage.run(until: { client.isClosed })
        #expect(client.connection.write("late") == .closed)
        #expect(stage.served[0].received.isEmpty)
    }
}
