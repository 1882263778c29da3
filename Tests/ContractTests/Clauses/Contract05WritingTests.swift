import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 5: writing` {
    /// Sizes on both sides of what is batched, of the batch, of the water marks and of what a socket holds.
    static let sizes = [
        1, 2, 16, 100, 1_000, 16_383, 16_384, 16_385, 40_000, 65_535, 65_536, 65_537, 100_000, 300_000,
    ]

    @Test(arguments: Engine.allCases, [1, 2, 3, 4] as [UInt64])
    func `pieces of all sizes from several callbacks arrive in order, whole and once`(
        engine: Engine, seed: UInt64
    ) throws {
        let total = 6_000_000
        let bytes = pseudoRandomBytes(count: total, seed: seed)
        var random = SplitMix64(seed: seed)
        var written = 0
        /// Writes some pieces, each in one of the ways there are.
        func writeSome(_ connection: Connection) {
            for _ in 0..<Int.random(in: 1...8, using: &random) where written < total {
                let size = min(Self.sizes.randomElement(using: &random)!, total - written)
                let piece = bytes[written..<written + size]
                written += size
                switch Int.random(in: 0..<3, using: &random) {
                case 0: connection.write(Array(piece))
                case 1: connection.write(Array(piece)) { _ in }
                default: connection.write(piece.span)
                }
            }
            if written == total { connection.end() }
        }
        weak var loop: EventLoop?
        let stage = try Stage(engine) { connection in
            writeSome(connection)
            connection.onData = { connection, _ in writeSome(connection) }
            connection.onDrain = { writeSome($0) }
            loop?.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
                if written == total { return timer.cancel() }
                // Not without bound, or the whole would be queued at once.
                if connection.bufferedByteCount < 1_000_000 { writeSome(connection) }
            }
        }
        loop = stage.loop
        let received = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            return try client.receiveUntilEnd()
        }
        #expect(written == total)
        #expect(isEqual(received, bytes))
    }

    @Test(.heavy, arguments: Engine.allCases)
    func `64 MiB in one write, through small kernel buffers`(engine: Engine) throws {
        let block = pseudoRandomBytes(count: 1 << 20, seed: 64)
        let count = 64 << 20
        let options = Listener.Options.connections {
            $0.sendBufferSize = 8_192
            $0.timeouts.close = .seconds(30)
        }
        let diary = Diary()
        let stage = try Stage(engine, options: options) { connection in
            diary.follow(connection)
            var all: [UInt8] = []
            all.reserveCapacity(count)
            for _ in 0..<64 { all += block }
            #expect(connection.write(all, completion: diary.completion()) == .saturated)
            connection.close()
        }
        let end = try stage.run(timeLimit: .seconds(40)) { port in
            let client = try PlainClient(port: port, receiveBuffer: 8_192, timeLimit: .seconds(30))
            return try client.firstDifference(fromRepeated: block)
        }
        #expect(end == count, "all of it, each byte in its place, and then the end")
        #expect(diary.events == [.completion(0, .sent), .close(.localClose)])
    }

    @Test(arguments: Engine.allCases)
    func `one byte at a time both ways`(engine: Engine) throws {
        let options = Listener.Options.connections {
            $0.sendBufferSize = 1
            $0.receiveBufferSize = 1
        }
        let stage = try Stage(engine, options: options) { connection in
            connection.onData = { connection, bytes in
                for index in bytes.indices { connection.write([bytes[index]]) }
            }
        }
        let sent = pseudoRandomBytes(count: 2_000, seed: 11)
        try stage.run { port in
            let client = try PlainClient(port: port)
            for byte in sent { try client.send([byte]) }
            #expect(try client.receive(exactly: sent.count) == sent)
        }
    }

    @Test(arguments: Engine.allCases)
    func `what other connections' callbacks write is not mixed up`(engine: Engine) throws {
        // Each byte that arrives anywhere makes one writer write to all, in pieces that interleave.
        let count = 5
        let rounds = 200
        var connections: [Connection] = []
        let stage = try Stage(engine) { connection in
            connections.append(connection)
            if connections.count == count { for each in connections { each.write("!") } }
            connection.onData = { _, bytes in
                for _ in bytes.indices {
                    for _ in 0..<3 {
                        for (index, each) in connections.enumerated() { each.write("\(index):") }
                    }
                }
            }
            connection.onEnd = { _ in for each in connections { each.end() } }
        }
        let received = try stage.run { port -> [[UInt8]] in
            let clients = try (0..<count).map { _ in try PlainClient(port: port) }
            for client in clients { _ = try client.receive(exactly: 1) }
            for round in 0..<rounds { try clients[round % count].send("x") }
            // When its last byte has come, no connection of the others has one on its way.
            let expected = rounds * 3 * 2
            let answers = try clients.map { try $0.receive(exactly: expected) }
            try clients[0].halfClose()
            for client in clients { try client.expectEnd() }
            return answers
        }
        connections = []
        let expected = Set((0..<count).map { String(repeating: "\($0):", count: rounds * 3) })
        #expect(Set(received.map { String(decoding: $0, as: UTF8.self) }) == expected)
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `a peer that is gone has an exact prefix, and no byte after the failure`(
        engine: Engine, small: Bool
    ) throws {
        // All bytes differ from their neighbours a piece away, so that a hole would show.
        let bytes = pseudoRandomBytes(count: 20_000_000, seed: 55)
        let size = small ? 5_000 : 100_000
        let diary = Diary()
        var start = 0
        let stage = try Stage(engine, options: .connections { $0.sendBufferSize = 32_768 }) { connection in
            var reactions = Diary.Reactions()
            func writeSome(_ connection: Connection) {
                while start < bytes.count {
                    let status = connection.write(
                        Array(bytes[start..<start + size]), completion: diary.completion())
                    if status == .closed { return }
                    start += size
                    if status == .saturated { return }
                }
            }
            reactions.data = { connection, _ in writeSome(connection) }
            reactions.drain = { writeSome($0) }
            diary.follow(connection, reactions)
        }
        let received = try stage.run { port -> [UInt8] in
            let client = try PlainClient(port: port, receiveBuffer: 32_768)
            try client.send("x")
            let received = try client.receive(exactly: 3_000_001)
            try client.reset()
            return received
        }
        #expect(isEqual(received, Array(bytes[..<received.count])))
        #expect(diary.closeReasons == [.peerReset])
        #expect(diary.completions.first?.result == .sent)
        #expect(diary.completions.drop { $0.result == .sent }.allSatisfy { $0.result == .failed(.peerReset) })
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `written, buffered and unsent bytes add up at every moment`(engine: Engine) throws {
        var accepted: UInt64 = 0
        weak var loop: EventLoop?
        func check(_ connection: Connection, sourceLocation: SourceLocation = #_sourceLocation) {
            let sum = connection.bytesWritten + UInt64(connection.bufferedByteCount) + connection.bytesUnsent
            #expect(sum == accepted, sourceLocation: sourceLocation)
        }
        func write(_ connection: Connection, _ size: Int) {
            connection.write([UInt8](repeating: 1, count: size))
            accepted += UInt64(size)
            check(connection)
        }
        var unsent: UInt64?
        let stage = try Stage(engine) { connection in
            connection.onData = { connection, _ in
                for size in Self.sizes { write(connection, size) }
                for _ in 0..<50 { write(connection, 100_000) }
                loop?.schedule(after: .milliseconds(10)) { _ in
                    check(connection)
                    connection.reset()
                    check(connection)
                }
            }
            connection.onDrain = { check($0) }
            connection.onClose = { connection, _ in
                check(connection)
                #expect(connection.bufferedByteCount == 0)
                unsent = connection.bytesUnsent
            }
        }
        loop = stage.loop
        try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 65_536)
            try client.send("x")
            _ = try client.receiveUntilOver()
        }
        #expect(unsent != nil)
    }
}
