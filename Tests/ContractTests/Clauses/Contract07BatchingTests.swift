import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 7: batching` {
    /// How the small writes of one callback may be made.
    enum Style: CaseIterable {
        case array, span, text, completions

        func write(_ count: Int, of size: Int, to connection: Connection) {
            let piece = [UInt8](repeating: 0x61, count: size)
            let text = String(repeating: "a", count: size)
            for _ in 0..<count {
                switch self {
                case .array: connection.write(piece)
                case .span: connection.write(piece.span)
                case .text: connection.write(text)
                case .completions: connection.write(piece) { _ in }
                }
            }
        }
    }

    @Test(arguments: Engine.allCases, Style.allCases)
    func `1,000 small writes in one callback are at most 2 system calls`(engine: Engine, style: Style) throws {
        let stage = try Stage(engine) { connection in
            connection.onData = { connection, _ in style.write(1_000, of: 16, to: connection) }
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
        func writeMany(_ connection: Connection) { Style.array.write(100, of: 16, to: connection) }
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

    @Test(arguments: Engine.allCases, [(connections: 2, rounds: 500), (20, 50)])
    func `writes to connections in turn leave in at most 2 system calls for each`(
        engine: Engine, load: (connections: Int, rounds: Int)
    ) throws {
        @Sendable func text(_ number: Int, _ round: Int) -> String {
            String("\(number):\(round), 16 bytes   ".prefix(16))
        }
        var connections: [Connection] = []
        let stage = try Stage(engine) { connection in
            connections.append(connection)
            connection.write("!")
            connection.onData = { connection, bytes in
                connection.write(bytes)
                guard bytes[0] == UInt8(ascii: "x") else { return }
                for round in 0..<load.rounds {
                    for (number, connection) in connections.enumerated() {
                        connection.write(text(number, round))
                    }
                }
            }
            connection.onClose = { _, _ in connections = [] }
        }
        let segments = try stage.run { port -> [Int] in
            var clients: [PlainClient] = []
            for _ in 0..<load.connections {
                let client = try PlainClient(port: port)
                #expect(try client.receive(exactly: 1) == Array("!".utf8))
                clients.append(client)
            }
            let asking = clients.count / 2
            try clients[asking].send("x")
            let segments = try clients.indices.map { number in
                let expected =
                    (number == asking ? "x" : "")
                    + (0..<load.rounds).map { text(number, $0) }.joined()
                #expect(try clients[number].receive(exactly: expected.utf8.count) == Array(expected.utf8))
                return try receivedDataSegments(clients[number].descriptor) - 1
            }
            // The next batch begins anew.
            try clients[asking].send("y")
            #expect(try clients[asking].receive(exactly: 1) == Array("y".utf8))
            return segments
        }
        #expect(segments.allSatisfy { (1...2).contains($0) }, "\(segments)")
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
