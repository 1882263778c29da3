import CNames
import CallbackAsync
import CallbackServer
import ServerTestSupport
import TestSupport
import Testing

/// Where a task may be when it is cancelled.
private enum Moment: CaseIterable {
    /// Before it has called anything.
    case before
    case waiting
    /// While it waits, by another thread.
    case elsewhere
}

extension EventLoop {
    /// Runs a task with this body, cancels it, and tells what came of it.
    fileprivate func cancelled(
        _ moment: Moment, sourceLocation: SourceLocation = #_sourceLocation, _ body: @escaping () async throws -> Void
    ) throws -> String {
        var outcome = ""
        let task = task { outcome = await told(body) }
        if moment == .before { task.cancel() }
        try settle()
        if moment == .waiting { task.cancel() }
        if moment == .elsewhere { _ = onThread { task.cancel() } }
        try run(until: { outcome != "" }, sourceLocation: sourceLocation)
        return outcome
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A cancelled task` {
    @Test(arguments: Engine.allCases)
    func `that waits for bytes resets the connection`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        for moment in Moment.allCases {
            let (connection, peer) = try pair(loop)
            try #expect(loop.cancelled(moment) { for try await _ in connection.bytes {} } == "cancelled")
            try loop.run()
            try peer.expectReset()
        }
    }

    @Test(arguments: Engine.allCases)
    func `gets no bytes that wait for it, or it would go on as long as there are some`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        try peer.send("one")
        let bytes = connection.bytes
        connection.resume()
        try loop.run(until: { connection.bytesRead == 3 })
        var count = 0
        try #expect(loop.cancelled(.before) { for try await _ in bytes { count += 1 } } == "cancelled")
        #expect(count == 0)
        try loop.run()
        try peer.expectReset()
    }

    @Test(arguments: Engine.allCases)
    func `that waits to send resets the connection`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        for moment in Moment.allCases {
            let (connection, peer) = try pair(loop)
            let outcome = try loop.cancelled(moment) {
                while true { try await connection.send(Array(repeating: 1, count: 1 << 20)) }
            }
            #expect(outcome == "cancelled")
            try loop.run()
            let (_, ending) = try peer.receiveUntilOver()
            #expect(ending == .reset)
        }
    }

    @Test(arguments: Engine.allCases)
    func `that looks on leaves the connection as it is`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        for moment in Moment.allCases {
            try #expect(loop.cancelled(moment) { _ = try await connection.closed() } == "cancelled")
        }
        try peer.send("still there")
        try peer.halfClose()
        try loop.finish { try await echo(connection) }
        #expect(String(decoding: try peer.receiveUntilEnd(), as: UTF8.self) == "still there")
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `that waits for a client closes the listener`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        for moment in Moment.allCases {
            let listener = try loop.listenSomewhere()
            let client = moment == .before ? try PlainClient(port: listener.port) : nil
            // Accepted, and not asked for.
            if client != nil { try loop.settle() }
            try #expect(loop.cancelled(moment) { for try await _ in listener.connections {} } == "cancelled")
            // Nothing else keeps it.
            try loop.run()
            try waitUntilRefused(port: listener.port)
            try client?.expectReset()
            try loop.finish { for try await _ in listener.connections { Issue.record("there is no client") } }
        }
    }

    @Test(arguments: Engine.allCases)
    func `that connects gives the attempt up`(engine: Engine) throws {
        let (listener, first) = try hangingPeer()
        let address = try SocketAddress.ipv4("127.0.0.1", port: Int(listener.port))
        let name = "held-async-\(engine)"
        let loop = try EventLoop(engine: engine)
        for moment in Moment.allCases {
            try #expect(loop.cancelled(moment) { _ = try await loop.connect(to: address) } == "cancelled")
            try #expect(loop.cancelled(moment) { _ = try await loop.connect(host: name, port: 1) } == "cancelled")
            try loop.run()
        }
        names_let_go(name)
        withExtendedLifetime(first) {}
    }

    @Test(arguments: Engine.allCases)
    func `that waits for a name withdraws its question`(engine: Engine) throws {
        let name = "held-async-question-\(engine)"
        let loop = try EventLoop(engine: engine)
        for moment in Moment.allCases {
            for host in [name, "127.0.0.1"] where host == name || moment == .before {
                try #expect(loop.cancelled(moment) { _ = try await loop.resolve(host: host, port: 1) } == "cancelled")
            }
            try loop.run()
        }
        names_let_go(name)
    }

    @Test(arguments: Engine.allCases)
    func `may say a last word before it calls`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        let task = loop.task {
            while !Task.isCancelled { await Task.yield() }
            connection.write("going down")
            connection.finish(within: .seconds(5))
            #expect(await told { try await connection.send("late") } == "ECANCELED")
        }
        try loop.settle()
        task.cancel()
        let reading = onThread {
            let bytes = try peer.receiveUntilEnd()
            peer.close()
            return bytes
        }
        try loop.run()
        #expect(String(decoding: try reading.value(), as: UTF8.self) == "going down")
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A loop that is let go` {
    @Test(arguments: Engine.allCases)
    func `ends every wait of its tasks, and goes`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        let (connection, peer) = try pair(try #require(loop))
        let listener = try #require(try loop?.listenSomewhere())
        var notes: Set<String> = []
        loop?.task {
            let outcome = await told { for try await _ in connection.bytes {} }
            notes.insert("bytes: \(outcome)")
        }
        loop?.task {
            let outcome = await told { while true { try await connection.send(Array(repeating: 1, count: 1 << 20)) } }
            notes.insert("send: \(outcome)")
            // What is called from now on ends as well.
            #expect(await told { for try await _ in connection.bytes {} } == "ECANCELED")
        }
        loop?.task { notes.insert("closed: \((try? await connection.closed())?.description ?? "failed")") }
        loop?.task {
            let outcome = await told { for try await _ in listener.connections {} }
            notes.insert("clients: \(outcome)")
        }
        try loop?.settle()
        #expect(notes == [])
        weak let gone = loop
        loop = nil
        #expect(gone == nil)
        #expect(notes == ["bytes: ECANCELED", "send: ECANCELED", "closed: localClose", "clients: none"])
        withExtendedLifetime(peer) {}
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Two tasks that ask at once` {
    @Test(arguments: Engine.allCases)
    func `for bytes trap`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            let (connection, peer) = try pair(loop)
            for _ in 0..<2 { loop.task { _ = await told { for try await _ in connection.bytes {} } } }
            try loop.settle()
            withExtendedLifetime(peer) {}
        }
        expectSentence(result, "Connection.bytes: two tasks call next() at once")
    }

    @Test(arguments: Engine.allCases)
    func `for a client trap`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            let listener = try loop.listenSomewhere()
            for _ in 0..<2 { loop.task { _ = await told { for try await _ in listener.connections {} } } }
            try loop.settle()
        }
        expectSentence(result, "AsyncListener.connections: two tasks call next() at once")
    }
}
