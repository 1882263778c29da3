import CallbackServer
import ExampleTestSupport
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `SOCKS proxy` {
    @Test(arguments: Engine.allCases)
    func `curl gets through it, by name and by address`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let server6 = try Example("http-hello", engine, ["--host", "::1"])
        let proxy = try Example("socks5", engine)
        for (option, host, port) in [
            ("--socks5-hostname", "localhost", server.port), ("--socks5", "127.0.0.1", server.port),
            ("--socks5-hostname", "127.0.0.1", server.port), ("--socks5", "[::1]", server6.port),
            ("--socks5-hostname", "[::1]", server6.port),
        ] {
            let page = try run("curl", ["-sS", option, "127.0.0.1:\(proxy.port)", "http://\(host):\(port)/"])
            #expect(page == "Hello, world!\n", "\(option) \(host)")
        }
        for server in [proxy, server, server6] { try server.stop() }
    }

    @Test(arguments: Engine.allCases)
    func `with a user, only who knows the password gets through`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let proxy = try Example("socks5", engine, ["--user", "ann:secret:x"])
        func curl(_ user: String, status: Int32) throws -> String {
            let place = "socks5h://\(user)127.0.0.1:\(proxy.port)"
            let child = try ChildProcess(try tool("curl"), ["-sS", "-x", place, "http://localhost:\(server.port)/"])
            #expect(try child.waitForExit(timeLimit: Example.patience) == .exited(status), "\(child.standardErrorText)")
            return child.standardOutputText
        }
        #expect(try curl("ann:secret%3Ax@", status: 0) == "Hello, world!\n")
        for user in ["ann:secret@", "bob:secret%3Ax@", ""] { #expect(try curl(user, status: 97) == "") }
        // 255 bytes each, that is as much as there can be.
        let client = try proxy.client()
        let long = [255] + [UInt8](repeating: 0x61, count: 255)
        try client.send([5, 2, 0, 2])
        #expect(try client.receive(exactly: 2) == [5, 2])
        try client.send([1] + long + long)
        #expect(try client.receiveUntilEnd() == [1, 1])
        client.close()
        for server in [proxy, server] { try server.stop() }
    }

    /// All that the client says comes at once, or byte by byte.
    @Test(arguments: Engine.allCases, [false, true])
    func `bytes go both ways whole, and each end on its own`(engine: Engine, isCut: Bool) throws {
        let listener = try PlainListener()
        let proxy = try Example("socks5", engine)
        let client = try proxy.client()
        let early = Array("early".utf8)
        let request = [5, 1, 0] + Self.request([1, 127, 0, 0, 1], port: listener.port) + early
        for piece in isCut ? request.map({ [$0] }) : [request] { try client.send(piece) }
        let server = try listener.accept()
        let expected =
            [5, 0] + [5, 0, 0, 1, 127, 0, 0, 1] + [UInt8(server.remotePort >> 8), UInt8(server.remotePort & 255)]
        #expect(try client.receive(exactly: expected.count) == expected)
        #expect(try server.receive(exactly: early.count) == early)
        try expectBothWays(client, server, count: 4 << 20)
        try proxy.stop()
    }

    private static func request(_ place: [UInt8], command: UInt8 = 1, port: UInt16) -> [UInt8] {
        [5, command, 0] + place + [UInt8(port >> 8), UInt8(port & 255)]
    }

    @Test(arguments: Engine.allCases)
    func `what it cannot or will not do is answered with the standard's code, and then the connection ends`(
        engine: Engine
    ) throws {
        let listener = try PlainListener()
        let port = listener.port
        listener.close()
        let proxy = try Example("socks5", engine)
        let name = Array("no-such-name.invalid".utf8)
        let refused: [(request: [UInt8], code: UInt8)] = [
            (Self.request([1, 127, 0, 0, 1], port: port), 5), (Self.request([3, 20] + name, port: 80), 4),
            (Self.request([3, 1, 0xFF], port: 80), 4), (Self.request([3, 0], port: 80), 4),
            (Self.request([3, 3, 0x61, 0, 0x62], port: 80), 4),
            (Self.request([1, 127, 0, 0, 1], command: 2, port: 80), 7),
            (Self.request([1, 127, 0, 0, 1], command: 3, port: 80), 7), (Self.request([2, 127, 0, 0, 1], port: 80), 8),
        ]
        for (request, code) in refused {
            let client = try proxy.client()
            try client.send([5, 1, 0] + request)
            #expect(try client.receiveUntilEnd() == [5, 0] + [5, code, 0, 1, 0, 0, 0, 0, 0, 0], "\(request)")
            client.close()
        }
        // It knows no method of the client's.
        let client = try proxy.client()
        try client.send([5, 2, 1, 2])
        #expect(try client.receiveUntilEnd() == [5, 0xFF])
        client.close()
        // Another protocol.
        for bytes in [[4, 1, 0, 80, 127, 0, 0, 1, 0], Array("GET / HTTP/1.1\r\n\r\n".utf8), [5, 1, 0, 4]] as [[UInt8]] {
            let client = try proxy.client()
            try client.send(bytes)
            _ = try client.receiveUntilOver()
            try proxy.child.waitForLine(containing: "127.0.0.1:\(client.localPort): socks", timeLimit: Example.patience)
            client.close()
        }
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases)
    func `SIGTERM lets those finish who are connected`(engine: Engine) throws {
        let listener = try PlainListener()
        let proxy = try Example("socks5", engine, ["--drain", "60"])
        let client = try proxy.client()
        try client.send([5, 1, 0] + Self.request([1, 127, 0, 0, 1], port: listener.port))
        let server = try listener.accept()
        _ = try client.receive(exactly: 12)
        proxy.child.signal(SIGTERM)
        try proxy.child.waitForLine(containing: "Draining, with 1 connections")
        try client.send("late")
        #expect(try server.receive(exactly: 4) == Array("late".utf8))
        try server.send("answer")
        server.close()
        #expect(try client.receiveUntilEnd() == Array("answer".utf8))
        client.close()
        #expect(try proxy.child.waitForExit() == .exited(0))
    }
}
