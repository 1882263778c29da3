import CallbackAsync
import CallbackServer
import Glibc
import ServerTestSupport
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Errors in tasks` {
    /// What a task that waits for bytes, one that waits to send, and an onlooker are told when `end` happens.
    private func outcomes(
        _ engine: Engine, options: Connection.Options = .init(), sendsMuch: Bool = true,
        _ end: (Connection, PlainClient) throws -> Void
    ) throws -> [String] {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop, options: options)
        var outcomes = ["", "", ""]
        // Not of the connection: those are cancelled when it has closed.
        let reading = loop.task { outcomes[0] = await told { for try await _ in connection.bytes {} } }
        let sending = loop.task {
            guard sendsMuch else { return outcomes[1] = "none" }
            outcomes[1] = await told { while true { try await connection.send(Array(repeating: 1, count: 1 << 20)) } }
        }
        let looking = loop.task {
            outcomes[2] =
                await told {
                    let reason = try await connection.closed()
                    outcomes[2] = "\(reason)"
                } == "none" ? outcomes[2] : "failed"
        }
        try loop.settle()
        try end(connection, peer)
        try loop.run(until: { outcomes.allSatisfy { $0 != "" } })
        for task in [reading, sending, looking] { task.cancel() }
        // Later calls say the same.
        try loop.finish {
            let late = await told { for try await _ in connection.bytes {} }
            #expect(late == outcomes[0])
            let reason = try await connection.closed()
            #expect("\(reason)" == outcomes[2])
            #expect(await told { try await connection.send("late") } != "none")
        }
        try loop.run()
        return outcomes
    }

    @Test(arguments: Engine.allCases)
    func `a peer's reset is ECONNRESET`(engine: Engine) throws {
        let outcomes = try outcomes(engine) { _, peer in try peer.reset() }
        #expect(outcomes == ["ECONNRESET", "ECONNRESET", "peerReset"])
    }

    @Test(arguments: Engine.allCases)
    func `what this side closes or resets is ECANCELED`(engine: Engine) throws {
        let reset = try outcomes(engine) { connection, _ in connection.reset() }
        #expect(reset == ["ECANCELED", "ECANCELED", "localReset"])
        let closed = try outcomes(engine, sendsMuch: false) { connection, _ in connection.close() }
        #expect(closed == ["ECANCELED", "none", "localClose"])
    }

    @Test(arguments: Engine.allCases)
    func `a passed time-out is ETIMEDOUT`(engine: Engine) throws {
        var options = Connection.Options()
        options.timeouts.read = .milliseconds(20)
        let outcomes = try outcomes(engine, options: options, sendsMuch: false) { _, _ in }
        #expect(outcomes == ["ETIMEDOUT", "none", "timedOut(read)"])
    }

    @Test(arguments: Engine.allCases)
    func `too much in the queue is ENOBUFS`(engine: Engine) throws {
        var options = Connection.Options()
        options.maxQueuedBytes = 8 << 20
        let outcomes = try outcomes(engine, options: options, sendsMuch: false) { connection, _ in
            connection.write(Array(repeating: 1, count: 32 << 20))
        }
        #expect(outcomes == ["ENOBUFS", "none", "shed"])
    }

    @Test(arguments: Engine.allCases)
    func `what came before a failure is returned first`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        let bytes = connection.bytes
        connection.resume()
        try peer.send("before")
        try loop.run(until: { connection.bytesRead == 6 })
        connection.reset()
        try loop.settle()
        var seen: [UInt8] = []
        var outcome = ""
        try loop.finish { outcome = await told { for try await piece in bytes { seen += piece } } }
        #expect(String(decoding: seen, as: UTF8.self) == "before" && outcome == "ECANCELED")
    }

    @Test(arguments: Engine.allCases)
    func `a send on what this side has ended says so`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (connection, peer) = try pair(loop)
        connection.end()
        try loop.finish { #expect(await told { try await connection.send("late") } == "ECANCELED") }
        peer.close()
        try loop.finish { for try await _ in connection.bytes {} }
        try loop.run()
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting in tasks` {
    @Test(arguments: Engine.allCases)
    func `a refusal is thrown, with its address`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let address = try freeAddress()
        do {
            try loop.finish { _ = try await loop.connect(to: address) }
            Issue.record("nobody listens there")
        } catch let error as IOError {
            #expect(error.name == "ECONNREFUSED" && error.address == address, "\(error)")
        }
        do {
            try loop.finish { _ = try await loop.connect(host: "127.0.0.1", port: address.port ?? 0) }
            Issue.record("nobody listens there")
        } catch let error as IOError {
            #expect(error.name == "ECONNREFUSED", "\(error)")
        }
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `a peer that does not answer is ETIMEDOUT`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (listener, first) = try hangingPeer()
        var options = EventLoop.ConnectOptions()
        options.connection.timeouts.connect = .milliseconds(30)
        let address = try SocketAddress.ipv4("127.0.0.1", port: Int(listener.port))
        try loop.finish {
            #expect(await told { _ = try await loop.connect(to: address, options: options) } == "ETIMEDOUT")
        }
        try loop.run()
        withExtendedLifetime(first) {}
    }

    @Test(arguments: Engine.allCases)
    func `a name is looked up, and an unknown one is ENOENT`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listenSomewhere()
        try loop.finish {
            let addresses = try await loop.resolve(host: "known-async", port: 7)
            #expect(addresses == [try .ipv4("127.0.0.1", port: 7)])
            let numbers = try await loop.resolve(host: "192.0.2.1", port: 7)
            #expect(numbers == [try .ipv4("192.0.2.1", port: 7)])
            #expect(await told { _ = try await loop.resolve(host: "failing-async", port: 7) } == "EAGAIN")
            #expect(await told { _ = try await loop.resolve(host: "unknown-async", port: 7) } == "ENOENT")
            #expect(await told { _ = try await loop.resolve(host: "no host", port: 7) } == "EINVAL")
            #expect(await told { _ = try await loop.connect(host: "failing-async", port: 7) } == "EAGAIN")
            let connection = try await loop.connect(host: "known-async", port: Int(listener.port))
            connection.reset()
        }
        listener.close()
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `what the server says at once is not lost`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let server = try PlainListener()
        let address = try SocketAddress.ipv4("127.0.0.1", port: Int(server.port))
        let thread = onThread {
            for _ in 0..<20 {
                let peer = try server.accept()
                try peer.send("hello")
                try peer.halfClose()
                try peer.expectEnd()
            }
        }
        for _ in 0..<20 {
            var seen: [UInt8] = []
            try loop.finish {
                let connection = try await loop.connect(to: address)
                // Other turns pass, in which the greeting comes.
                for _ in 0..<20 { await Task.yield() }
                try await Task.sleep(for: .milliseconds(1))
                for try await bytes in connection.bytes { seen += bytes }
            }
            #expect(String(decoding: seen, as: UTF8.self) == "hello")
            try loop.run()
        }
        try thread.value()
    }
}

/// An address of this host where nobody listens.
private func freeAddress() throws -> SocketAddress { try .ipv4("127.0.0.1", port: Int(unusedPort())) }

/// A listener whose backlog is full: the kernel drops the next SYN.
func hangingPeer() throws -> (PlainListener, PlainClient) {
    let listener = try PlainListener(backlog: 0)
    return (listener, try PlainClient(port: listener.port))
}
