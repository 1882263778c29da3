import CallbackAsync
import CallbackServer
import Foundation
import ServerTestSupport
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Back-pressure through tasks` {
    @Test(arguments: Engine.allCases)
    func `a task that stops asking keeps one read, and the peer has to wait`(engine: Engine) throws {
        var options = EventLoop.Options()
        options.readBufferSize = 16 * 1024
        let loop = try EventLoop(engine: engine, options: options)
        let (connection, peer) = try pair(loop)
        var iterator = connection.bytes.makeAsyncIterator()
        let block = pseudoRandomBytes(count: 1 << 20)
        var first = 0
        try peer.send(Array(block[..<10]))
        try loop.finish { first = try await iterator.next()?.count ?? 0 }
        #expect(first == 10)
        // Until nothing more goes in, however long the loop runs.
        var sent = 10
        while true {
            let more = try peer.sendSome(Array(block[(sent % block.count)...]))
            sent += more
            try loop.settle()
            if more == 0 { break }
        }
        #expect(connection.bytesRead <= UInt64(10 + options.readBufferSize), "one read and no more is kept")
        #expect(sent > 100_000, "the rest is in the kernel")
        // All of it is there when the task goes on.
        try peer.halfClose()
        var position = first
        try loop.finish {
            while let bytes = try await iterator.next() {
                // Whole pieces: a look at each byte of megabytes takes too long under a sanitizer.
                let start = position % block.count
                let beforeWrap = min(bytes.count, block.count - start)
                let expected = block[start..<start + beforeWrap] + block[..<(bytes.count - beforeWrap)]
                #expect(Data(expected) == Data(bytes), "from byte \(position) on")
                position += bytes.count
            }
        }
        #expect(position == sent)
    }

    @Test(arguments: Engine.allCases)
    func `send waits while the peer does not read, and the queue stays short`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var options = Connection.Options()
        options.sendBufferSize = 32 * 1024
        let (connection, peer) = try pair(loop, options: options, receiveBuffer: 32 * 1024)
        let (piece, total) = (pseudoRandomBytes(count: 10_000), 400)
        var returned = 0
        var outcome = "waits"
        connection.task {
            outcome = await told {
                for _ in 0..<total {
                    try await connection.send(piece)
                    returned += 1
                }
                connection.end()
            }
        }
        try loop.settle()
        let stopped = returned
        try loop.settle()
        #expect(returned == stopped && stopped < total && outcome == "waits")
        let most = options.highWaterMark + piece.count
        #expect((options.lowWaterMark...most).contains(connection.bufferedByteCount))
        // The peer reads: everything arrives, in order.
        let reading = onThread {
            for _ in 0..<total {
                guard try peer.receive(exactly: piece.count) == piece else { return false }
            }
            try peer.expectEnd()
            peer.close()
            return true
        }
        try loop.run(until: { reading.isFinished })
        #expect(try reading.value())
        #expect(outcome == "none" && returned == total)
    }

    @Test(arguments: Engine.allCases)
    func `several tasks that wait to send all go on, in the order of their calls`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var options = Connection.Options()
        options.sendBufferSize = 32 * 1024
        let (connection, peer) = try pair(loop, options: options, receiveBuffer: 32 * 1024)
        var returned: [Int] = []
        for number in 0..<5 {
            connection.task {
                let bytes = [UInt8](repeating: UInt8(number), count: 1 << 20)
                #expect(await told { try await connection.send(bytes) } == "none")
                returned.append(number)
            }
        }
        try loop.settle()
        #expect(returned == [])
        let reading = onThread { try peer.receive(exactly: 5 << 20) }
        try loop.run(until: { reading.isFinished && returned.count == 5 })
        let bytes = try reading.value()
        for number in 0..<5 {
            let part = bytes[(number << 20)..<((number + 1) << 20)]
            #expect(part.first == UInt8(number) && part.last == UInt8(number))
        }
        connection.reset()
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `clients that nobody asks for stay in the backlog`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listenSomewhere()
        let clients = try (0..<5).map { _ in try PlainClient(port: listener.port) }
        try loop.settle()
        #expect(listener.listener.connectionCount == 1, "one is kept")
        var iterator = listener.connections.makeAsyncIterator()
        var served: [SocketAddress] = []
        for number in 1...5 {
            try loop.finish { served += try await iterator.next().map { [$0.remoteAddress] } ?? [] }
            try loop.settle()
            #expect(listener.listener.connectionCount <= number + 1)
        }
        #expect(served.compactMap(\.port) == clients.map { Int($0.localPort) })
        #expect(listener.listener.connectionCount == 5)
        listener.close()
        try loop.finish {
            let next = try await iterator.next()
            #expect(next == nil)
        }
        for client in clients { client.close() }
    }

    @Test(arguments: Engine.allCases)
    func `a drain ends the clients' sequence, behind those of the backlog`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listenSomewhere()
        let clients = try (0..<5).map { _ in try PlainClient(port: listener.port) }
        try loop.settle()
        var report: DrainReport?
        listener.listener.drain(within: .seconds(20)) { report = $0 }
        for client in clients { try client.halfClose() }
        var served = 0
        try loop.finish {
            for try await connection in listener.connections {
                try await echo(connection)
                served += 1
            }
        }
        #expect(served == 5)
        try loop.run()
        #expect(report?.finished == 5, "\(String(describing: report))")
    }
}
