import CallbackServer
import Glibc
import TestSupport
import Testing

/// Hosts by their names and numeric addresses. What needs a script, such as who answers when, is tested with one:
/// `Tests/CallbackModelTests/HostRaceTests.swift`.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting: to a host` {
    @Test(arguments: Engine.allCases, ["localhost", "127.0.0.1", "::1"])
    func `a name or a numeric address is enough`(engine: Engine, host: String) throws {
        let server = try PlainServer(host == "::1" ? .ipv6 : .ipv4)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow {
            try loop.connect(host: host, port: Int(server.listener.port))
        }
        #expect(connection.descriptor == -1 && connection.localAddress == nil && connection.bytesRead == 0)
        diary.overseer.call("write") { _ = connection.write("first ", completion: diary.completion()) }
        #expect(connection.bufferedByteCount == 6)
        diary.reactions.open = { connection in
            #expect(connection.remoteAddress == server.address && connection.descriptor >= 0)
            connection.write("second", completion: diary.completion())
            connection.end()
        }
        #expect(try loop.run(diary, peer) == Array("first second".utf8))
        #expect(diary.results == [.sent, .sent] && diary.closeReason == .localClose)
        #expect(diary.events.first == .open)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a peer that has gone before the first byte is sent was open`(engine: Engine) throws {
        let server = try PlainListener()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(host: "127.0.0.1", port: Int(server.port)) }
        connection.write("late", completion: diary.completion())
        connection.end()
        // In the same turn before the engine looks: the kernel has connected and ended it already.
        loop.schedule(after: .zero) { timer in
            var entry = pollfd(fd: server.descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 0) == 1 else { return timer.reschedule(after: .zero) }
            try? server.accept().close()
        }
        try loop.run()
        #expect(diary.isOpen && diary.closeReason == .peerReset, "\(diary.events)")
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `ten megabytes written before are sent once, in order`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(host: "127.0.0.1", port: Int(server.listener.port)) }
        var expected: [UInt8] = []
        for (seed, size) in [10, 10 << 20, 20_000].enumerated() {
            let piece = pseudoRandomBytes(count: size, seed: UInt64(seed))
            expected += piece
            #expect(connection.write(piece, completion: diary.completion()) == (size > 10 ? .saturated : .flowing))
        }
        diary.reactions.drain = { $0.end() }
        #expect(isEqual(try loop.run(diary, peer), expected))
        #expect(diary.results == [.sent, .sent, .sent])
        #expect(diary.events.count { $0 == .drain } == 1)
        #expect(connection.bytesWritten == UInt64(expected.count))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `an unknown host is told by the resolver's error`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        // A top-level domain that is never there (RFC 6761, section 6.4).
        let connection = try diary.follow { try loop.connect(host: "nobody.invalid", port: 80) }
        connection.write("x", completion: diary.completion())
        try loop.run()
        let error = try #require(diary.failure, "\(diary.events)")
        #expect(error.call == "getaddrinfo")
        // Without a name server there is no answer: EAGAIN.
        #expect(error.errno == ENOENT || error.errno == EAGAIN)
        #expect(error.address == nil && error.detail?.contains("nobody.invalid") == true, "\(error)")
        #expect(diary.events == [.completion(0, .failed(.failed(error))), .close(.failed(error))])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a host where nobody listens is told with its address`(engine: Engine) throws {
        let port = try SilentPort()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(host: "127.0.0.1", port: port.port) }
        connection.end()
        try loop.run()
        #expect(
            diary.events == [.close(.failed(IOError(call: "connect", errno: ECONNREFUSED, address: try port.address)))])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `arguments that cannot be are thrown`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        for (host, port) in [("", 80), ("a\0b", 80), ("localhost", -1), ("localhost", 65_536)] {
            let error = #expect(throws: IOError.self) { try loop.connect(host: host, port: port) }
            #expect(error?.errno == EINVAL && error?.call == "getaddrinfo")
        }
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `only addresses of this end's family are tried`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { try $0.expectEnd() }
        let loop = try EventLoop(engine: engine)
        let (four, six) = (try SocketAddress.ipv4("127.0.0.1", port: 0), try SocketAddress.ipv6("::1", port: 0))
        let diary = Diary()
        diary.reactions.open = { $0.close() }
        try diary.follow {
            let port = Int(server.listener.port)
            return try loop.connect(host: "localhost", port: port, options: .with { $0.localAddress = four })
        }
        try loop.run(diary, peer)
        #expect(diary.isOpen)
        let other = Diary()
        try other.follow { try loop.connect(host: "127.0.0.1", port: 1, options: .with { $0.localAddress = six }) }
        try loop.run()
        #expect(other.failure?.call == "connect" && other.failure?.errno == EADDRNOTAVAIL)
        other.expectOrder()
    }

    enum Act: CaseIterable { case close, reset, writeAndReset }

    @Test(arguments: Engine.allCases, Act.allCases)
    func `it closes at once while the resolver is asked, and the loop waits for its answer`(
        engine: Engine, act: Act
    ) throws {
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(host: "localhost", port: 1) }
        if act == .writeAndReset { connection.write("x", completion: diary.completion()) }
        diary.overseer.call("close") { act == .close ? connection.close() : connection.reset() }
        #expect(connection.write("late") == .closed)
        try loop.run()
        let reason = act == .close ? CloseReason.localClose : .localReset
        #expect(diary.events == (act == .writeAndReset ? [.completion(0, .failed(reason))] : []) + [.close(reason)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a close after writes sends them first, and does not wait for its time-out`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(host: "127.0.0.1", port: Int(server.listener.port)) }
        connection.write("goodbye", completion: diary.completion())
        connection.close()
        #expect(try loop.run(diary, peer) == Array("goodbye".utf8))
        #expect(diary.events == [.completion(0, .sent), .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `an end after writes sends both, then hears the answer`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve(answeringAtEnd)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(host: "127.0.0.1", port: Int(server.listener.port)) }
        connection.write("question", completion: diary.completion())
        connection.end()
        connection.pause()
        diary.reactions.open = { $0.resume() }
        #expect(try loop.run(diary, peer) == Array("question".utf8))
        #expect(diary.events == [.open, .completion(0, .sent), .data(6), .end, .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `the connect time-out bounds the whole`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let begin = monotonicTime()
        let connection = try diary.follow {
            let port = peer.address.port ?? 0
            return try loop.connect(host: "127.0.0.1", port: port, options: .timeout(.milliseconds(50)))
        }
        connection.write("x", completion: diary.completion())
        try loop.run(until: { diary.isClosed })
        #expect(monotonicTime() - begin >= .milliseconds(50))
        let reason = CloseReason.timedOut(.connect)
        #expect(diary.events == [.timeout(.connect), .completion(0, .failed(reason)), .close(reason)])
        diary.expectOrder()
    }
}
