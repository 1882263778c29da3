import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A full Unix backlog` {
    /// A Unix listener that can take no further client, and those that it has.
    private final class Full {
        let listener: PlainListener
        let address: SocketAddress
        private(set) var waiting: [PlainClient] = []
        private let directory: TemporaryDirectory

        init() throws {
            directory = try TemporaryDirectory()
            let path = directory.path(of: "full.sock")
            listener = try PlainListener(unixPath: path, backlog: 1)
            address = try .unix(path: path)
            while let client = try connectNow(to: path) { waiting.append(client) }
        }
    }

    @Test(arguments: Engine.allCases)
    func `is waited for, and what was written arrives`(engine: Engine) throws {
        let full = try Full()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: full.address) }
        connection.write("early")
        for _ in 0..<20 { try loop.run(.noWait) }
        #expect(diary.events.isEmpty && loop.isAlive)
        #expect(connection.remoteAddress == full.address)
        let earlier = try full.waiting.map { _ in try full.listener.accept() }
        diary.reactions.open = { $0.write(", late") }
        try loop.run(until: { diary.events.contains(.open) })
        let peer = try full.listener.accept()
        connection.end()
        let thread = onThread {
            let bytes = try peer.receiveUntilEnd()
            peer.close()
            return bytes
        }
        try loop.run()
        #expect(try thread.value() == Array("early, late".utf8))
        #expect(diary.events.last == .close(.localClose))
        diary.expectOrder()
        withExtendedLifetime(earlier) {}
    }

    @Test(arguments: Engine.allCases)
    func `ends with the connect time-out, not before`(engine: Engine) throws {
        let full = try Full()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let before = monotonicTime()
        try diary.follow {
            try loop.connect(
                to: full.address, options: .with { $0.connection.timeouts.connect = .milliseconds(60) })
        }
        try loop.run()
        #expect(diary.events == [.timeout(.connect), .close(.timedOut(.connect))])
        #expect(monotonicTime() - before >= .milliseconds(60))
    }

    @Test(arguments: Engine.allCases)
    func `of a listener that closes is a refusal`(engine: Engine) throws {
        let full = try Full()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        try diary.follow { try loop.connect(to: full.address) }
        for _ in 0..<5 { try loop.run(.noWait) }
        full.listener.close()
        try loop.run()
        #expect(diary.failure?.errno == ECONNREFUSED && diary.failure?.address == full.address)
    }

    @Test(arguments: Engine.allCases)
    func `is waited for no longer by a connection that was closed, or whose loop has gone`(engine: Engine) throws {
        let full = try Full()
        var loop: EventLoop? = try EventLoop(engine: engine)
        let diary = Diary()
        let closed = try diary.follow { try #require(loop).connect(to: full.address) }
        closed.reset()
        try loop?.run()
        #expect(diary.events == [.close(.localReset)])
        weak let abandoned = try loop?.connect(to: full.address)
        #expect(abandoned != nil)
        loop = nil
        #expect(abandoned == nil)
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Files of Unix sockets` {
    private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    @Test(arguments: Engine.allCases)
    func `a client's own is gone when onClose runs`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let (server, mine) = (directory.path(of: "server.sock"), directory.path(of: "client.sock"))
        let listener = try PlainListener(unixPath: server)
        let loop = try EventLoop(engine: engine)
        for round in 0..<2 {
            let connection = try loop.connect(
                to: .unix(path: server), options: .with { $0.localAddress = try? .unix(path: mine) })
            #expect(exists(mine), "round \(round)")
            #expect(try connection.localAddress == .unix(path: mine))
            var isGone = false
            connection.onOpen = { $0.close() }
            connection.onClose = { [self] _, _ in isGone = !exists(mine) }
            try loop.run()
            #expect(isGone)
        }
        withExtendedLifetime(listener) {}
    }

    @Test(arguments: Engine.allCases)
    func `a client's own is gone when it was refused, or its loop was let go`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let mine = directory.path(of: "client.sock")
        var loop: EventLoop? = try EventLoop(engine: engine)
        let options = EventLoop.ConnectOptions.with { $0.localAddress = try? .unix(path: mine) }
        let connection = try loop?.connect(to: .unix(path: directory.path(of: "nobody")), options: options)
        try loop?.run()
        #expect(!exists(mine))
        let listener = try PlainListener(unixPath: directory.path(of: "server.sock"))
        let other = try loop?.connect(to: .unix(path: directory.path(of: "server.sock")), options: options)
        #expect(exists(mine))
        loop = nil
        #expect(!exists(mine))
        withExtendedLifetime((connection, other, listener)) {}
    }

    @Test(arguments: Engine.allCases)
    func `what another process has put in a client's place stays`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let (server, mine) = (directory.path(of: "server.sock"), directory.path(of: "client.sock"))
        let listener = try PlainListener(unixPath: server)
        let loop = try EventLoop(engine: engine)
        let connection = try loop.connect(
            to: .unix(path: server), options: .with { $0.localAddress = try? .unix(path: mine) })
        // Renamed, so that its number is not given to the next file.
        rename(mine, directory.path(of: "old.sock"))
        let another = try PlainListener(unixPath: mine)
        connection.close()
        try loop.run()
        #expect(exists(mine))
        withExtendedLifetime((listener, another)) {}
    }

    /// The working directory is the whole process's.
    @Test(arguments: Engine.allCases)
    func `a relative path is removed also after chdir, and tells itself as it was asked for`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let directory = try TemporaryDirectory()
            try #require(chdir(directory.path) == 0)
            let loop = try EventLoop(engine: engine)
            let listener = try loop.listen(on: .unix(path: "relative.sock")) { _ in }
            #expect(access("relative.sock", F_OK) == 0)
            try #require(chdir("/") == 0)
            #expect(try listener.localAddress == .unix(path: "relative.sock"))
            listener.close()
            try loop.run()
            #expect(access(directory.path(of: "relative.sock"), F_OK) != 0)
        }
    }

    /// Each finds the file that the winner of the round before has left, as a server does that was killed.
    @Test(arguments: Engine.allCases)
    func `of several starters at one path exactly one wins`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "server.sock")
        for round in 0..<100 {
            do {
                let stale = try PlainListener(unixPath: path)
                stale.close()
            } catch {
                Issue.record("round \(round): the file is still there: \(error)")
            }
            let (ready, mayStart, mayEnd) = (Count(), Flag(), Flag())
            let starters = (0..<3).map { _ in
                onThread {
                    let loop = try EventLoop(engine: engine)
                    ready.raise()
                    while !mayStart.isSet { sched_yield() }
                    let listener = try? loop.listen(on: .unix(path: path)) { _ in }
                    ready.raise()
                    while !mayEnd.isSet { sched_yield() }
                    return listener != nil
                }
            }
            waitUntil("starters") { ready.value == 3 }
            mayStart.set()
            waitUntil("the end of all starts") { ready.value == 6 }
            mayEnd.set()
            var winners = 0
            for starter in starters where try starter.value() { winners += 1 }
            #expect(winners == 1, "round \(round)")
            #expect(!exists(path), "round \(round)")
        }
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A connection to itself` {
    @Test(arguments: Engine.allCases)
    func `is a refusal`(engine: Engine) throws {
        let address = try SocketAddress.ipv4("127.0.0.1", port: Int(unusedPort()))
        let loop = try EventLoop(engine: engine)
        for isHost in [false, true] {
            let diary = Diary()
            // What the kernel does of itself when it happens to choose this port.
            let options = EventLoop.ConnectOptions.with { $0.localAddress = address }
            try diary.follow {
                isHost
                    ? try loop.connect(host: "127.0.0.1", port: address.port ?? 0, options: options)
                    : try loop.connect(to: address, options: options)
            }
            try loop.run()
            #expect(diary.events.count == 1)
            #expect(diary.failure == IOError(call: "connect", errno: ECONNREFUSED, address: address))
        }
        // The port is free.
        let server = try PlainListener(port: UInt16(address.port ?? 0))
        withExtendedLifetime(server) {}
    }

    @Test(arguments: Engine.allCases)
    func `is one also when it was closed before it opened`(engine: Engine) throws {
        let address = try SocketAddress.ipv4("127.0.0.1", port: Int(unusedPort()))
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow {
            try loop.connect(to: address, options: .with { $0.localAddress = address })
        }
        connection.write("to nobody")
        connection.close()
        try loop.run()
        #expect(diary.failure?.errno == ECONNREFUSED)
    }
}

/// One more client of a Unix listener; `nil` if its backlog is full.
private func connectNow(to path: String) throws -> PlainClient? {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    let client = PlainClient(adopting: descriptor)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let status = withUnsafeBytes(of: &address) {
        connect(
            descriptor, $0.assumingMemoryBound(to: sockaddr.self).baseAddress!,
            socklen_t(MemoryLayout<sockaddr_un>.size))
    }
    if status == 0 { return client }
    guard errno == EAGAIN else { throw PeerError(call: "connect", cause: .errno(errno), waitedFor: path) }
    return nil
}
