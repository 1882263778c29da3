import CallbackServer
import Glibc
import TestSupport
import Testing

/// What the kernel says of a connection's socket (getsockopt(2)), accepted and opened alike.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Socket options` {
    enum Way: CaseIterable { case accepted, opened }

    /// A connection with these options, and what must stay alive for it.
    private func connect(
        _ engine: Engine, _ way: Way, host: String = "127.0.0.1", _ change: (inout Connection.Options) -> Void
    ) throws -> (connection: Connection, kept: [AnyObject]) {
        let loop = try EventLoop(engine: engine)
        var accepted: Connection?
        let address: SocketAddress = try host == "::1" ? .ipv6(host, port: 0) : .ipv4(host, port: 0)
        let options = Listener.Options.connections { if way == .accepted { change(&$0) } }
        let listener = try loop.listen(on: address, options: options) { accepted = $0 }
        var connecting = EventLoop.ConnectOptions()
        if way == .opened { change(&connecting.connection) }
        let opened = try loop.connect(to: listener.localAddress, options: connecting)
        var isOpen = false
        opened.onOpen = { _ in isOpen = true }
        try loop.run(until: { isOpen && accepted != nil })
        let connection = try #require(accepted)
        return way == .accepted ? (connection, [loop, opened]) : (opened, [loop, connection])
    }

    private func option(_ connection: Connection, _ level: Int32, _ name: Int32) throws -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        let status = getsockopt(connection.descriptor, level, name, &value, &length)
        try #require(status == 0, "getsockopt: \(errno)")
        return value
    }

    private let tcp = Int32(IPPROTO_TCP)

    @Test(arguments: Engine.allCases, combined(Way.allCases, [true, false]))
    func `noDelay`(engine: Engine, how: (way: Way, noDelay: Bool)) throws {
        let (way, noDelay) = how
        let (connection, kept) = try connect(engine, way) { $0.noDelay = noDelay }
        #expect(try (option(connection, tcp, TCP_NODELAY) != 0) == noDelay)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `the keep-alive triple`(engine: Engine, way: Way) throws {
        let (connection, kept) = try connect(engine, way) {
            $0.keepAlive = .init(idle: .seconds(77), interval: .seconds(13), count: 5)
        }
        #expect(try option(connection, SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(try option(connection, tcp, TCP_KEEPIDLE) == 77)
        #expect(try option(connection, tcp, TCP_KEEPINTVL) == 13)
        #expect(try option(connection, tcp, TCP_KEEPCNT) == 5)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `no keep-alive unless asked for`(engine: Engine, way: Way) throws {
        let (connection, kept) = try connect(engine, way) { _ in }
        #expect(try option(connection, SOL_SOCKET, SO_KEEPALIVE) == 0)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `buffer sizes, which the kernel doubles`(engine: Engine, way: Way) throws {
        let (connection, kept) = try connect(engine, way) {
            $0.receiveBufferSize = 20_000
            $0.sendBufferSize = 30_000
        }
        #expect(try option(connection, SOL_SOCKET, SO_RCVBUF) == 40_000)
        #expect(try option(connection, SOL_SOCKET, SO_SNDBUF) == 60_000)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `the type of service over IPv4`(engine: Engine, way: Way) throws {
        let (connection, kept) = try connect(engine, way) { $0.typeOfService = 0xB8 }
        #expect(try option(connection, Int32(IPPROTO_IP), IP_TOS) == 0xB8)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `the type of service over IPv6`(engine: Engine, way: Way) throws {
        let (connection, kept) = try connect(engine, way, host: "::1") { $0.typeOfService = 0x48 }
        #expect(try option(connection, Int32(IPPROTO_IPV6), IPV6_TCLASS) == 0x48)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `the user time-out`(engine: Engine, way: Way) throws {
        // TCP_USER_TIMEOUT, which Glibc's module does not show (linux/tcp.h).
        let userTimeout: Int32 = 18
        let (connection, kept) = try connect(engine, way) { $0.userTimeout = .milliseconds(12_345) }
        #expect(try option(connection, tcp, userTimeout) == 12_345)
        withExtendedLifetime(kept) {}
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `the low water mark of what is not sent yet, which leaves the rest in the queue`(
        engine: Engine, way: Way
    ) throws {
        // TCP_NOTSENT_LOWAT (linux/tcp.h).
        let notSentLowWaterMark: Int32 = 25
        let (connection, kept) = try connect(engine, way) { $0.notSentLowWaterMark = 20_000 }
        #expect(try option(connection, tcp, notSentLowWaterMark) == 20_000)
        // Without it the kernel takes some MB.
        connection.write([UInt8](repeating: 1, count: 8 << 20))
        let (plain, alsoKept) = try connect(engine, way) { _ in }
        plain.write([UInt8](repeating: 1, count: 8 << 20))
        #expect(connection.bufferedByteCount > plain.bufferedByteCount)
        withExtendedLifetime((kept, alsoKept)) {}
    }

    @Test(arguments: Engine.allCases)
    func `reusePort: two listeners of one port share its clients`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var options = Listener.Options()
        options.reusePort = true
        var counts = [0, 0]
        let first = try loop.listen(options: options) { _ in counts[0] += 1 }
        let second = try loop.listen(on: first.localAddress, options: options) { _ in counts[1] += 1 }
        #expect(second.localAddress == first.localAddress)
        // The kernel chooses by a hash of the client's port: 40 all on one side is 1 in 2^39.
        let clients = try (0..<40).map { _ in try PlainClient(port: first.port) }
        try loop.run(until: { counts[0] + counts[1] == clients.count })
        #expect(counts[0] > 0 && counts[1] > 0, "\(counts)")
    }

    @Test(arguments: Engine.allCases)
    func `without reusePort a port has one listener`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var options = Listener.Options()
        options.reusePort = true
        let first = try loop.listen { _ in }
        let error = #expect(throws: IOError.self) {
            try loop.listen(on: first.localAddress, options: options) { _ in }
        }
        #expect(error?.name == "EADDRINUSE")
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `ipv6Only: whether IPv4 clients are taken too`(engine: Engine, only: Bool) throws {
        let loop = try EventLoop(engine: engine)
        var options = Listener.Options()
        options.ipv6Only = only
        var peers: [SocketAddress] = []
        let listener = try loop.listen(on: .ipv6("::", port: 0), options: options) {
            peers.append($0.remoteAddress)
        }
        let client = try PlainClient(port: listener.port, host: "::1")
        // Refused, or a listener of another test has this port over IPv4.
        let mapped = try? PlainClient(port: listener.port)
        try loop.run(until: { peers.count == (only ? 1 : 2) })
        for _ in 0..<30 { try loop.run(.noWait) }
        #expect(peers.count { "\($0)".contains("127.0.0.1") } == (only ? 0 : 1), "\(peers)")
        mapped?.close()
        client.close()
    }
}
