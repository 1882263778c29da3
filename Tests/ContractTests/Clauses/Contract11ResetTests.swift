import CallbackServer
import Glibc
import TestSupport
import Testing

/// Linux keeps what it has received when RST comes: recv(2) gives it first, then ECONNRESET (tcp_recvmsg and
/// tcp_reset in net/ipv4).
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 11: reset` {
    /// Around the 256 KiB that one read brings, below the window that a new connection has (tcp(7), tcp_rmem).
    static let sizesInOneTurn = [1, 100, 65_535]
    /// From one byte to several read buffers.
    static let sizes = [1, 100, 65_536, 131_072, 262_143, 262_144, 262_145, 400_000]

    @Test(arguments: Engine.allCases, sizesInOneTurn)
    func `data and RST that one turn finds are told in this order`(engine: Engine, size: Int) throws {
        let log = ResetLog()
        let stage = try Stage(engine) { log.follow($0) }
        let client = try PlainClient(port: stage.port)
        try stage.run(until: { stage.listener.connectionCount == 1 })
        let bytes = pseudoRandomBytes(count: size, seed: 11)
        // The loop stands still meanwhile.
        try client.send(bytes)
        try client.waitUntilAcknowledged()
        try client.reset()
        try stage.run(until: { stage.listener.connectionCount == 0 })
        log.expect(bytes)
    }

    @Test(arguments: Engine.allCases, sizes)
    func `data before RST is delivered to the last byte`(engine: Engine, size: Int) throws {
        let log = ResetLog()
        let stage = try Stage(engine) { log.follow($0) }
        let bytes = pseudoRandomBytes(count: size, seed: 12)
        stage.mayEnd = { log.reason != nil }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send(bytes)
            try client.waitUntilAcknowledged()
            try client.reset()
        }
        log.expect(bytes)
    }

    @Test(arguments: Engine.allCases)
    func `data and RST that wait in the backlog are told too`(engine: Engine) throws {
        let log = ResetLog()
        let stage = try Stage(engine) { log.follow($0) }
        let client = try PlainClient(port: stage.port)
        let bytes = pseudoRandomBytes(count: 10_000, seed: 13)
        try client.send(bytes)
        try client.waitUntilAcknowledged()
        try client.reset()
        try stage.run(until: { log.reason != nil })
        log.expect(bytes)
    }

    /// The kernel tells a reset once: to that write, and then the read finds an end. More than one call takes, of which
    /// a second call takes the rest at once, is what an engine may queue and hear of later.
    @Test(arguments: Engine.allCases, [33_000, 42_300, 60_000])
    func `RST that a write meets before the read`(engine: Engine, size: Int) throws {
        let log = ResetLog()
        var options = Listener.Options()
        options.connection.sendBufferSize = 1
        options.connection.allowsHalfOpen = true
        let stage = try Stage(engine, options: options) { log.follow($0) }
        let client = try PlainClient(port: stage.port)
        try stage.run(until: { stage.listener.connectionCount == 1 })
        let connection = try #require(log.connection)
        // Outside of the loop, which then begins with what has become of the first.
        connection.write([UInt8](repeating: 1, count: size))
        try client.reset()
        connection.write([UInt8](repeating: 2, count: 5_700))
        try stage.run(until: { log.reason != nil })
        log.expect([])
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `RST while our queue is full`(engine: Engine, answersFirst: Bool) throws {
        let log = ResetLog()
        var results: [WriteResult] = []
        let stage = try Stage(engine) { connection in
            log.follow(connection)
            let answer = [UInt8](repeating: 7, count: 16 << 20)
            connection.write(answer) { results.append($0) }
            connection.write("more") { results.append($0) }
        }
        let client = try PlainClient(port: stage.port, receiveBuffer: 4_096)
        try stage.run(until: { stage.listener.connectionCount == 1 })
        let bytes = answersFirst ? pseudoRandomBytes(count: 5_000, seed: 14) : []
        try client.send(bytes)
        try client.waitUntilAcknowledged()
        try client.reset()
        try stage.run(until: { stage.listener.connectionCount == 0 })
        log.expect(bytes)
        #expect(results == [.failed(.peerReset), .failed(.peerReset)])
        #expect(log.bytesUnsent > 0)
    }

    @Test(arguments: Engine.allCases)
    func `RST after our FIN`(engine: Engine) throws {
        let log = ResetLog()
        let stage = try Stage(engine) { connection in
            log.follow(connection)
            connection.end()
        }
        let bytes = pseudoRandomBytes(count: 20_000, seed: 15)
        let client = try PlainClient(port: stage.port)
        let reader = onThread { try client.expectEnd() }
        try stage.run(until: { reader.isFinished })
        try reader.value()
        try client.send(bytes)
        try client.waitUntilAcknowledged()
        try client.reset()
        try stage.run(until: { stage.listener.connectionCount == 0 })
        log.expect(bytes)
    }

    @Test(arguments: Engine.allCases)
    func `RST after the peer's FIN, while we go on writing`(engine: Engine) throws {
        let log = ResetLog()
        var options = Listener.Options()
        options.connection.allowsHalfOpen = true
        let stage = try Stage(engine, options: options) { log.follow($0) }
        let bytes = pseudoRandomBytes(count: 20_000, seed: 16)
        let client = try PlainClient(port: stage.port)
        try client.send(bytes)
        try client.halfClose()
        try stage.run(until: { log.events.contains("end") })
        try client.reset()
        // Nobody reads any more: writing meets the reset.
        let writing = stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in
            log.connection?.write("still here")
        }
        try stage.run(until: { stage.listener.connectionCount == 0 })
        writing.cancel()
        #expect(log.bytes == bytes)
        #expect(log.events == ["end", "close"])
        #expect(log.reason == .peerReset)
    }

    @Test(arguments: Engine.allCases)
    func `a connection that writes into a reset still gets the data before it`(engine: Engine) throws {
        let log = ResetLog()
        let bytes = pseudoRandomBytes(count: 30_000, seed: 17)
        let stage = try Stage(engine) { log.follow($0) }
        let client = try PlainClient(port: stage.port)
        try stage.run(until: { stage.listener.connectionCount == 1 })
        try client.send(bytes)
        try client.waitUntilAcknowledged()
        try client.reset()
        // Outside of callbacks each write is sent at once: these fail before anything has been read.
        log.connection?.write("one")
        log.connection?.write("two")
        try stage.run(until: { stage.listener.connectionCount == 0 })
        log.expect(bytes)
    }
}

/// What one connection was told until it closed.
private final class ResetLog {
    private(set) var connection: Connection?
    private(set) var bytes: [UInt8] = []
    private(set) var events: [String] = []
    private(set) var reason: CloseReason?
    private(set) var bytesUnsent: UInt64 = 0

    func follow(_ connection: Connection) {
        self.connection = connection
        connection.onData = { [self] _, span in bytes += [UInt8](copying: span) }
        connection.onEnd = { [self] _ in events.append("end") }
        connection.onClose = { [self] connection, reason in
            events.append("close")
            self.reason = reason
            bytesUnsent = connection.bytesUnsent
            self.connection = nil
        }
    }

    /// All of the data, no end of input, and the reset as the cause.
    func expect(_ sent: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(bytes.count == sent.count, sourceLocation: sourceLocation)
        #expect(bytes == sent, sourceLocation: sourceLocation)
        #expect(events == ["close"], sourceLocation: sourceLocation)
        #expect(reason == .peerReset, sourceLocation: sourceLocation)
    }
}
