import CallbackAsync
import CallbackModel
import CallbackServer
import Glibc
import ServerTestSupport
import TestSupport
import Testing

/// An actor that lives on a loop and serves a listener's clients.
private actor Server: LoopActor {
    let loopExecutor: EventLoop.LoopExecutor
    private(set) var isOver = false

    init(_ executor: EventLoop.LoopExecutor) { loopExecutor = executor }

    func serve(_ listener: LoopOnly<AsyncListener>) {
        Task {
            do {
                for try await connection in listener.opened.connections {
                    for try await bytes in connection.bytes { try await connection.send(bytes) }
                }
            } catch { Issue.record(error) }
            isOver = true
        }
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The bytes of a connection` {
    /// The wait of an actor's task must not begin on a thread of Swift's pool: the loop would go on meanwhile.
    @Test(arguments: Engine.allCases)
    func `are an actor's too, which never leaves the loop for them`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let server = Server(loop.executor)
        let listener = try loop.listenSomewhere()
        let opened = LoopOnly(listener)
        loop.schedule(after: .zero) { _ in server.assumeIsolated { $0.serve(opened) } }
        let port = listener.port
        let client = onThread {
            let client = try PlainClient(port: port)
            for number in 0..<500 {
                try client.send("message \(number)\n")
                #expect(try client.receiveLine() == "message \(number)")
            }
            try client.halfClose()
            try client.expectEnd()
        }
        try loop.run(until: { client.isFinished })
        try client.value()
        listener.close()
        try loop.run(until: { server.assumeIsolated { $0.isOver } })
    }

    @Test(arguments: Engine.allCases)
    func `go both ways whole, for several clients at once`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listenSomewhere()
        var served = 0
        loop.task {
            do {
                for try await connection in listener.connections {
                    connection.task {
                        do { try await echo(connection) } catch { Issue.record(error) }
                        served += 1
                    }
                }
            } catch { Issue.record(error) }
        }
        let port = listener.port
        let clients = (0..<4).map { number in
            onThread {
                let client = try PlainClient(port: port)
                try client.echoExactly(300_000, chunk: 1 << (6 + 3 * number), seed: UInt64(number))
                try client.halfClose()
                try client.expectEnd()
            }
        }
        try loop.run(until: { clients.allSatisfy(\.isFinished) && served == clients.count })
        for client in clients { try client.value() }
        listener.close()
        // No task is left, and no connection.
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `go both ways between two tasks of one loop`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listenSomewhere()
        let sent = pseudoRandomBytes(count: 1 << 20)
        loop.task {
            do { for try await connection in listener.connections { try await echo(connection) } } catch {
                Issue.record(error)
            }
        }
        var received: [UInt8] = []
        try loop.finish {
            let client = try await loop.connect(to: listener.localAddress)
            client.task {
                var rest = sent[...]
                while !rest.isEmpty {
                    let outcome = await told { try await client.send(Array(rest.prefix(10_000))) }
                    #expect(outcome == "none")
                    rest = rest.dropFirst(10_000)
                }
                client.end()
            }
            for try await bytes in client.bytes { received += bytes }
        }
        #expect(received == sent)
        listener.close()
        try loop.run()
    }

    /// The callback of a plain echo answers before the peer's FIN is told; a task runs later.
    @Test(arguments: Engine.allCases)
    func `are answered before this side ends behind the peer`(engine: Engine) throws {
        var options = EventLoop.Options()
        options.readBufferSize = 4_096
        let loop = try EventLoop(engine: engine, options: options)
        // A read that fills the buffer is followed by another, which finds the FIN in the same turn.
        let words = pseudoRandomBytes(count: options.readBufferSize)
        for _ in 0..<10 {
            let (connection, peer) = try pair(loop)
            var outcome = "waits"
            connection.task { outcome = await told { try await echo(connection) } }
            try loop.settle()
            try peer.send(words)
            try peer.halfClose()
            try loop.run(until: { outcome != "waits" })
            #expect(outcome == "none")
            #expect(try peer.receiveUntilEnd() == words)
            peer.close()
            try loop.run()
        }
    }

    @Test(arguments: Engine.allCases)
    func `may be answered after their end, if the connection may be half open`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        for allowsHalfOpen in [false, true] {
            var options = Connection.Options()
            options.allowsHalfOpen = allowsHalfOpen
            let (connection, peer) = try pair(loop, options: options)
            try peer.send("12345")
            try peer.halfClose()
            var outcome = ""
            try loop.finish {
                var count = 0
                for try await bytes in connection.bytes { count += bytes.count }
                outcome = await told { try await connection.send("\(count)") }
                connection.end()
            }
            try loop.run()
            #expect(outcome == (allowsHalfOpen ? "none" : "EPIPE"))
            #expect(String(decoding: try peer.receiveUntilEnd(), as: UTF8.self) == (allowsHalfOpen ? "5" : ""))
        }
    }

    @Test(arguments: Engine.allCases)
    func `go on where another loop has stopped, and end once for all`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        var seen: [String] = []
        try loop.finish {
            for word in ["one", "two", "three"] {
                try peer.send(word)
                for try await bytes in connection.bytes {
                    seen.append(String(decoding: bytes, as: UTF8.self))
                    break
                }
            }
            try peer.halfClose()
            var iterator = connection.bytes.makeAsyncIterator()
            for _ in 0..<3 {
                let next = try await iterator.next(isolation: nil)
                #expect(next == nil)
            }
            let next = try await iterator.next()
            #expect(next == nil)
        }
        #expect(seen == ["one", "two", "three"])
        peer.close()
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `can be asked for in a callback`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var outcome = ""
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            let bytes = connection.bytes
            connection.task {
                outcome = await told { for try await piece in bytes { try await connection.send(piece) } }
            }
        }
        let port = UInt16(listener.localAddress.port ?? 0)
        let client = onThread {
            let client = try PlainClient(port: port)
            try client.echoExactly(100_000)
            try client.halfClose()
            try client.expectEnd()
        }
        try loop.run(until: { client.isFinished && listener.connectionCount == 0 })
        try client.value()
        #expect(outcome == "none")
    }

    @Test(arguments: Engine.allCases)
    func `leave a connection without them as it was`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        var seen = ""
        connection.onData = { connection, bytes in
            seen += String(validating: bytes) ?? "?"
            connection.write(bytes)
        }
        connection.resume()
        try peer.send("by callback")
        try peer.halfClose()
        try loop.run()
        #expect(seen == "by callback")
        #expect(String(decoding: try peer.receiveUntilEnd(), as: UTF8.self) == "by callback")
    }
}
