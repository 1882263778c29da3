import CallbackServer
import Glibc
import TestSupport
import Testing

/// What can be known of who is at the other end.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The peer of a connection` {
    /// Another process, so that it is not this one's number that is found.
    @Test(arguments: Engine.allCases)
    func `is known by its process, user and group on a Unix socket`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "server")
        let loop = try EventLoop(engine: engine)
        var found: Connection.PeerCredentials?
        var afterwards: Connection.PeerCredentials?
        var isOver = false
        let listener = try loop.listen(on: .unix(path: path)) { connection in
            found = connection.peerCredentials
            connection.onEnd = { $0.close() }
            connection.onClose = { connection, _ in
                afterwards = connection.peerCredentials
                isOver = true
            }
        }
        let child = try ChildProcess(ChildProcess.pathOfTool("nc"), ["-N", "-U", path])
        child.standardInput.close()
        try withExtendedLifetime(listener) { try loop.run(until: { isOver }) }
        #expect(found?.processID == child.pid)
        #expect(found.map { $0.userID == getuid() && $0.groupID == getgid() } == true)
        #expect(afterwards == nil)
        _ = try child.waitForExit()
    }

    @Test(arguments: Engine.allCases)
    func `is known to a client on a Unix socket, once it is open`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "server")
        let server = try PlainListener(unixPath: path)
        let loop = try EventLoop(engine: engine)
        let client = try loop.connect(to: .unix(path: path))
        var found: Connection.PeerCredentials?
        client.onOpen = { client in
            found = client.peerCredentials
            client.reset()
        }
        try loop.run()
        #expect(found?.processID == getpid())
        #expect(found.map { $0.userID == getuid() && $0.groupID == getgid() } == true)
        server.close()
    }

    @Test(arguments: Engine.allCases)
    func `is not known over TCP`(engine: Engine) throws {
        var found: [Connection.PeerCredentials?] = []
        let stage = try Stage(engine) { found.append($0.peerCredentials) }
        try stage.run { port in try PlainClient(port: port).close() }
        #expect(found == [nil])
    }

    /// A listener of both families sees IPv4 clients by mapped addresses (ipv6(7)).
    @Test(arguments: Engine.allCases)
    func `has an IPv4 address of its own on a listener of both families`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var remotes: [SocketAddress] = []
        let listener = try loop.listen(on: .ipv6("::", port: 0)) { remotes.append($0.remoteAddress) }
        let port = UInt16(listener.localAddress.port ?? 0)
        let clients = try ["127.0.0.1", "::1"].map { try PlainClient(port: port, host: $0) }
        try withExtendedLifetime((listener, clients)) { try loop.run(until: { remotes.count == 2 }) }
        #expect(remotes.map(\.host) == ["::ffff:127.0.0.1", "::1"])
        #expect(remotes.map(\.unmapped.host) == ["127.0.0.1", "::1"])
        #expect(remotes[0].unmapped.port == Int(clients[0].localPort))
        let areLocal = remotes.allSatisfy(\.isLoopback)
        #expect(areLocal)
    }

    /// Source: RFC 4007, section 11.
    @Test(arguments: Engine.allCases)
    func `may be named with its zone, by the interface's name or its number`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var answers: [[SocketAddress]] = []
        for zone in ["lo", "\(if_nametoindex("lo"))"] {
            try loop.resolve(host: "fe80::1%\(zone)", port: 80) { answers.append((try? $0.get()) ?? []) }
        }
        try loop.run()
        let expected = try SocketAddress.ipv6("fe80::1%lo", port: 80)
        #expect(answers == [[expected], [expected]])
        #expect(try SocketAddress(parsing: expected.description) == expected)
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The descriptor limit` {
    /// The whole process's, so it plays in one of its own.
    @Test func `is raised as far as asked for and as the hard limit goes, and never lowered`() async {
        await #expect(processExitsWith: .success) {
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
            var limit = rlimit(rlim_cur: 64, rlim_max: 256)
            try #require(setrlimit(resource, &limit) == 0)
            for (asked, answer) in [(128, 128), (1, 128), (64, 128), (255, 255), (1_000, 256), (.max, 256)] {
                #expect(try EventLoop.raiseDescriptorLimit(to: asked) == answer)
                #expect(getrlimit(resource, &limit) == 0)
                #expect(limit.rlim_cur == rlim_t(answer) && limit.rlim_max == 256)
            }
            for asked in [0, -1, .min] {
                #expect { try EventLoop.raiseDescriptorLimit(to: asked) } throws: { error in
                    (error as? IOError)?.errno == EINVAL && "\(error)".contains("\(asked) descriptors")
                }
            }
        }
    }

    @Test(arguments: Engine.allCases)
    func `raised, gives room for more connections`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            var limit = rlimit(rlim_cur: 40, rlim_max: 400)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            #expect(try EventLoop.raiseDescriptorLimit() == 400)
            var accepted = 0
            let loop = try EventLoop(engine: engine)
            let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in accepted += 1 }
            let port = UInt16(listener.localAddress.port ?? 0)
            let clients = try (0..<100).map { _ in try PlainClient(port: port) }
            try withExtendedLifetime((listener, clients)) { try loop.run(until: { accepted == 100 }) }
            #expect(accepted == 100)
        }
    }
}
