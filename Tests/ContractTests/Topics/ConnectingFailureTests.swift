import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting: failures` {
    /// Places where nobody listens, and what connect(2) says there.
    enum Absence: CaseIterable {
        case port, portOfIPv6, noFile, fileLeftBehind, plainFile, noDirectory, abstractName

        var errno: Int32 {
            switch self {
            case .port, .portOfIPv6, .fileLeftBehind, .plainFile, .abstractName: ECONNREFUSED
            case .noFile, .noDirectory: ENOENT
            }
        }

        func address(_ directory: TemporaryDirectory, _ port: SilentPort) throws -> SocketAddress {
            let path = directory.path(of: "peer")
            switch self {
            case .port: return try port.address
            // Nobody listens at port 1 of a test machine (tcpmux, RFC 1078).
            case .portOfIPv6: return try .ipv6("::1", port: 1)
            case .noFile: return try .unix(path: path)
            case .fileLeftBehind: try PlainListener(unixPath: path).close()
            case .plainFile: close(open(path, O_CREAT | O_WRONLY, 0o600))
            case .noDirectory: return try .unix(path: directory.path(of: "none/peer"))
            case .abstractName: return try .unix(abstract: path)
            }
            return try .unix(path: path)
        }
    }

    @Test(arguments: Engine.allCases, Absence.allCases)
    func `where nobody listens, onClose says so, with call, errno and address`(
        engine: Engine, absence: Absence
    ) throws {
        let directory = try TemporaryDirectory()
        let port = try SilentPort()
        let address = try absence.address(directory, port)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: address) }
        let isKnown = connection.descriptor == -1
        // A Unix socket's outcome is known at once, and then writes are refused, as on any closed connection.
        #expect(isKnown == (address.port == nil))
        for text in ["for nobody", ""] {
            let completion = isKnown ? { _ in } : diary.completion()
            let status = diary.overseer.call("write") { connection.write(text, completion: completion) }
            #expect(status == (isKnown ? .closed : .flowing))
        }
        try loop.run()
        let error = try #require(diary.failure, "\(diary.events)")
        #expect(error == IOError(call: "connect", errno: absence.errno, address: address))
        #expect(diary.results == (isKnown ? [] : [.failed(.failed(error)), .failed(.failed(error))]))
        #expect(connection.bytesUnsent == (isKnown ? 0 : 10) && connection.bytesWritten == 0)
        #expect(!diary.isOpen && connection.descriptor == -1)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a refusal is told in place of this side's own close or end`(engine: Engine) throws {
        let port = try SilentPort()
        let acts: [(Connection) -> Void] = [{ $0.end() }, { $0.close() }, { $0.pause() }, { $0.reset() }]
        for (number, act) in acts.enumerated() {
            let loop = try EventLoop(engine: engine)
            let diary = Diary()
            let connection = try diary.follow { try loop.connect(to: port.address) }
            connection.write("x", completion: diary.completion())
            act(connection)
            try loop.run()
            if number == 3 {
                #expect(diary.closeReason == .localReset)
            } else {
                #expect(diary.failure?.errno == ECONNREFUSED, "act \(number): \(diary.events)")
            }
            #expect(!diary.isOpen && diary.completions.count == 1)
            diary.expectOrder()
        }
    }

    @Test(arguments: Engine.allCases)
    func `onClose of a refused connection may connect again`(engine: Engine) throws {
        let port = try SilentPort()
        let loop = try EventLoop(engine: engine)
        var diaries: [Diary] = []
        func connect() throws {
            let diary = Diary()
            diaries.append(diary)
            diary.reactions.close = { _, _ in
                if diaries.count < 20 { #expect(throws: Never.self) { try connect() } }
            }
            try diary.follow { try loop.connect(to: port.address) }
        }
        try connect()
        try loop.run()
        #expect(diaries.count == 20)
        for diary in diaries {
            #expect(diary.failure?.errno == ECONNREFUSED)
            diary.expectOrder()
        }
    }

    // MARK: This end's address

    @Test(arguments: Engine.allCases)
    func `this end's address is the one asked for`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { client in
            try client.expectEnd()
            return client.remotePort
        }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let loopback = try SocketAddress.ipv4("127.0.0.2", port: 0)
        let options = EventLoop.ConnectOptions.with { $0.localAddress = loopback }
        var local: SocketAddress?
        diary.reactions.open = { connection in
            local = connection.localAddress
            connection.close()
        }
        try diary.follow { try loop.connect(to: server.address, options: options) }
        let port = try loop.run(diary, peer)
        #expect(local?.host == "127.0.0.2" && local?.port == Int(port))
    }

    @Test(arguments: Engine.allCases)
    func `a local address that cannot be had is thrown, and nothing is left`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let taken = try SilentPort()
        let loop = try EventLoop(engine: engine)
        let cases: [(SocketAddress, [Int32])] = [
            (try taken.address, [EADDRINUSE]),
            // TEST-NET-1 (RFC 5737) is no address of this host.
            (try .ipv4("192.0.2.1", port: 0), [EADDRNOTAVAIL]),
            (try .ipv6("::1", port: 0), [EINVAL, EAFNOSUPPORT]),
            (try .unix(path: "/nowhere"), [EINVAL, EAFNOSUPPORT]),
        ]
        for (local, errnos) in cases {
            do {
                let connection = try loop.connect(to: server.address, options: .with { $0.localAddress = local })
                Issue.record("\(connection) from \(local)")
            } catch {
                #expect(error.call == "bind" && errnos.contains(error.errno) && error.address == local, "\(error)")
            }
        }
        #expect(!loop.isAlive)
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `options out of bounds are thrown, and change nothing`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let loop = try EventLoop(engine: engine)
        let changes: [(inout EventLoop.ConnectOptions) -> Void] = [
            { $0.attemptDelay = .milliseconds(9) },
            { $0.attemptDelay = .milliseconds(2_001) },
            { $0.attemptDelay = .seconds(-1) },
            { $0.connection.highWaterMark = 0 },
            { $0.connection.lowWaterMark = 1 << 20 },
            { $0.connection.sendBufferSize = 0 },
            { $0.connection.keepAlive = .init(count: 128) },
            { $0.connection.timeouts.connect = .zero },
            { $0.connection.timeouts.connect = .seconds(-1) },
        ]
        for (number, change) in changes.enumerated() {
            let options = EventLoop.ConnectOptions.with(change)
            #expect(throws: IOError.self, "\(number)") { try loop.connect(to: server.address, options: options) }
            let error = #expect(throws: IOError.self, "\(number)") {
                try loop.connect(host: "127.0.0.1", port: 1, options: options)
            }
            #expect(error?.errno == EINVAL, "\(number)")
        }
        #expect(!loop.isAlive)
    }
}
