import CallbackServer
import Glibc
import TestSupport
import Testing

/// The name of a Unix socket is bytes, which its owner chooses (unix(7)).
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Names of Unix sockets` {
    /// With an escape sequence, a line break, what turns text around, and no UTF-8.
    private static let odd = Array("\u{1b}[2Jforged\nline\u{202e}".utf8) + [0xff]
    private static let shown = "\\u{1b}[2Jforged\\nline\\u{202e}\\xff"

    @Test(arguments: Engine.allCases)
    func `a peer that binds its own socket forges no line`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let names = [Array(directory.path(of: "").utf8) + Self.odd + [0], [0] + Self.odd + Array(directory.path.utf8)]
        var remotes: [SocketAddress] = []
        let loop = try EventLoop(engine: engine)
        let path = directory.path(of: "server")
        let listener = try loop.listen(on: .unix(path: path)) { connection in
            remotes.append(connection.remoteAddress)
        }
        let peers = try names.map { try PlainClient(unixPath: path, own: $0) }
        try withExtendedLifetime((listener, peers)) { try loop.run(until: { remotes.count == names.count }) }
        let text = remotes.map(\.description)
        #expect(text == ["unix:\(directory.path(of: ""))\(Self.shown)", "unix:@\(Self.shown)\(directory.path)"])
        #expect(remotes.map(\.bytes) == [names[0].dropLast(), names[1].dropFirst()].map(Array.init))
        for remote in remotes { #expect(try SocketAddress(parsing: remote.description) == remote) }
    }

    /// A file's name that is no UTF-8, one that begins like an abstract name, and abstract names that hold NULs.
    enum Name: CaseIterable { case noUTF8, at, abstractNUL, abstractNoUTF8 }

    @Test(arguments: Engine.allCases, Name.allCases)
    func `a server and its client may have any`(engine: Engine, name: Name) throws {
        let directory = try TemporaryDirectory()
        let path = Array(directory.path(of: "").utf8)
        let loop = try EventLoop(engine: engine)
        // Twice: a file that is left behind would be in the way. An abstract name has no file, but a child of another
        // test may hold the listening socket for the moment between fork and exec.
        for round in [UInt8(0), 1] {
            let (address, raw): (SocketAddress, [UInt8])
            switch name {
            case .noUTF8: (address, raw) = (try .unix(path: path + Self.odd), path + Self.odd + [0])
            case .at: (address, raw) = (try .unix(path: path + Array("@run".utf8)), path + Array("@run".utf8) + [0])
            case .abstractNUL:
                (address, raw) = (try .unix(abstract: [0] + path + [round, 0]), [0, 0] + path + [round, 0])
            case .abstractNoUTF8:
                (address, raw) = (try .unix(abstract: path + [0xff, round]), [0] + path + [0xff, round])
            }
            let listener = try loop.listen(on: address) { echo($0) }
            #expect(listener.localAddress == address)
            let client = try loop.connect(to: SocketAddress(parsing: address.description))
            var isClosed = false
            var isEchoed = false
            client.onData = { client, bytes in
                isEchoed = bytes.count == 5
                client.close()
            }
            client.onClose = { _, _ in isClosed = true }
            client.write("hello")
            let plain = try PlainClient(unixBytes: raw)
            try loop.run(until: { isClosed })
            #expect(isEchoed)
            plain.close()
            listener.close()
            try loop.run()
            if raw[0] != 0 { #expect(throws: PeerError.self) { try PlainClient(unixBytes: raw) } }
        }
    }

    @Test(arguments: Engine.allCases)
    func `two that are equal as text are two servers`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let loop = try EventLoop(engine: engine)
        let texts = ["\u{e9}", "e\u{301}"]
        var heard: [String: Int] = [:]
        let listeners = try texts.enumerated().map { number, text in
            try loop.listen(on: .unix(path: directory.path(of: text))) { _ in heard["\(number)", default: 0] += 1 }
        }
        #expect(listeners[0].localAddress != listeners[1].localAddress)
        let clients = try texts.map { try PlainClient(unixPath: directory.path(of: $0)) }
        try loop.run(until: { heard.count == 2 })
        #expect(heard == ["0": 1, "1": 1])
        clients.forEach { $0.close() }
        listeners.forEach { $0.close() }
        try loop.run()
    }

    /// A client's own socket mostly has none. To bind to that would let the kernel choose a name (unix(7), autobind).
    @Test(arguments: Engine.allCases)
    func `a socket without one cannot be listened on or connected to`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let unnamed = try SocketAddress(parsing: "unix:")
        #expect { _ = try loop.listen(on: unnamed) { _ in } } throws: { ($0 as? IOError)?.errno == EINVAL }
        #expect { _ = try loop.connect(to: unnamed) } throws: { ($0 as? IOError)?.errno == EINVAL }
        try loop.run()
    }
}
