import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `Contract 7: batching` {
    /// How the small writes of one callback may be made.
    enum Style: CaseIterable {
        case array, span, text, completions, interleaved

        func write(_ count: Int, of size: Int, to connection: Connection, _ other: Connection?) {
            let piece = [UInt8](repeating: 0x61, count: size)
            let text = String(repeating: "a", count: size)
            for _ in 0..<count {
                switch self {
                case .array: connection.write(piece)
                case .span: connection.write(piece.span)
                case .text: connection.write(text)
                case .completions: connection.write(piece) { _ in }
                case .interleaved:
                    connection.write(piece)
                    other?.write(piece)
                }
            }
        }
    }

    @Test(arguments: Engine.allCases, Style.allCases.filter { $0 != .interleaved })
    func `1,000 small writes in one callback are at most 2 system calls`(engine: Engine, style: Style) throws {
        let stage = try Stage(engine) { connection in
            connection.onData = { connection, _ in style.write(1_000, of: 16, to: connection, nil) }
        }
        let segments = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            let bytes = try client.receive(exactly: 16_000)
            #expect(isEqual(bytes, [UInt8](repeating: 0x61, count: 16_000)))
            return try receivedDataSegments(client.descriptor)
        }
        #expect((1...2).contains(segments), "each send is at least one segment")
    }

    @Test(arguments: Engine.allCases)
    func `each kind of callback is batched`(engine: Engine) throws {
        let options = Listener.Options.connections {
            $0.timeouts.read = .milliseconds(20)
            $0.highWaterMark = 1_500
            $0.lowWaterMark = 0
            $0.allowsHalfOpen = true
        }
        func writeMany(_ connection: Connection) { Style.array.write(100, of: 16, to: connection, nil) }
        var isDrained = false
        let stage = try Stage(engine, options: options) { connection in
            writeMany(connection)
            connection.onData = { connection, _ in writeMany(connection) }
            connection.onDrain = { connection in
                if isDrained { return }
                isDrained = true
                writeMany(connection)
            }
            connection.onTimeout = { connection, _ in
                connection.onTimeout = { _, _ in .keep }
                writeMany(connection)
                return .keep
            }
            connection.onEnd = { connection in
                writeMany(connection)
                connection.write("x") { _ in
                    writeMany(connection)
                    connection.end()
                }
            }
        }
        let segments = try stage.run { port in
            let client = try PlainClient(port: port)
            // onConnection and its onDrain, then onTimeout, then onData.
            _ = try client.receive(exactly: 3 * 1_600)
            try client.send("x")
            _ = try client.receive(exactly: 1_600)
            try client.halfClose()
            #expect(try client.receiveUntilEnd().count == 2 * 1_600 + 1)
            return try receivedDataSegments(client.descriptor)
        }
        #expect((1...12).contains(segments), "six callbacks, at most two calls each")
    }

    @Test(arguments: Engine.allCases)
    func `writes to two connections in turn are batched for both`(engine: Engine) throws {
        var connections: [Connection] = []
        let stage = try Stage(engine) { connection in
            connections.append(connection)
            connection.onData = { _, _ in
                Style.interleaved.write(100, of: 16, to: connections[0], connections[1])
            }
            connection.onClose = { _, _ in connections = [] }
        }
        let segments = try stage.run { port -> [Int] in
            let clients = try [PlainClient(port: port), PlainClient(port: port)]
            try clients[0].send("x")
            return try clients.map { client in
                _ = try client.receive(exactly: 1_600)
                return try receivedDataSegments(client.descriptor)
            }
        }
        #expect(segments.allSatisfy { $0 <= 4 }, "\(segments)")
    }

    @Test(arguments: Engine.allCases)
    func `nothing written waits, though the loop then sleeps`(engine: Engine) throws {
        // No timer, so that nothing but what the peer sends wakes the loop.
        let loop = try EventLoop(engine: engine)
        let large = pseudoRandomBytes(count: 100_000)
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            connection.write("greeting")
            connection.onData = { connection, bytes in
                switch bytes[0] {
                case 0x73: connection.write("small")
                case 0x6c: connection.write(large)
                // Small behind large, and the other way round.
                default:
                    connection.write("before")
                    connection.write(large)
                    connection.write("after")
                }
            }
        }
        let port = UInt16(try #require(listener.localAddress.port))
        let peer = onThread {
            let client = try PlainClient(port: port)
            #expect(try client.receive(exactly: 8) == Array("greeting".utf8))
            for _ in 0..<3 {
                try client.send("s")
                #expect(try client.receive(exactly: 5) == Array("small".utf8))
                try client.send("l")
                #expect(isEqual(try client.receive(exactly: large.count), large))
                try client.send("m")
                let expected = Array("before".utf8) + large + Array("after".utf8)
                #expect(isEqual(try client.receive(exactly: expected.count), expected))
            }
        }
        // One turn takes the client; from then on the loop ends when the client's connection has.
        try loop.run(.once)
        listener.close()
        try loop.run()
        try peer.value()
    }

    @Test(arguments: Engine.allCases)
    func `outside of callbacks a write leaves at once`(engine: Engine) throws {
        var accepted: Connection?
        let stage = try Stage(engine) { accepted = $0 }
        let client = try PlainClient(port: stage.port)
        try stage.run(until: { accepted != nil })
        let connection = try #require(accepted)
        connection.write("not in a callback")
        // The loop does not run: only the call itself can have sent it.
        #expect(try client.receive(exactly: 17) == Array("not in a callback".utf8))
        client.close()
        try stage.run(until: { stage.listener.connectionCount == 0 })
    }
}
