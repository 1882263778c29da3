import CallbackServer
import CallbackTLS
import ServerTestSupport
import TestSupport
import Testing

/// Clients of this library and other people's servers.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Real servers` {
    /// A server, the port it listens on, and what it answers to a line.
    private func exchange(
        _ engine: Engine, port: UInt16, _ client: TLS.Client, _ request: String,
        until isWhole: @escaping (String) -> Bool
    ) throws -> Served {
        let loop = try EventLoop(engine: engine)
        let served = Served(
            try loop.connect(
                to: .ipv4("127.0.0.1", port: Int(port)), tls: client, serverName: "localhost"))
        served.onOpen = { $0.write(request) }
        served.onData = { [unowned served] connection, _ in if isWhole(served.text) { connection.end() } }
        try loop.run(until: { served.isClosed })
        return served
    }

    @Test(arguments: Engine.allCases, TLS.Version.allCases)
    func `openssl s_server answers, and resumes the session`(engine: Engine, version: TLS.Version) throws {
        let server = try ChildProcess(
            "/usr/bin/openssl",
            [
                "s_server", "-accept", "127.0.0.1:0", "-cert", Certificates.path("leaf.pem"), "-key",
                Certificates.path("leaf.key"), "-cert_chain", Certificates.path("middle.pem"), "-rev", "-alpn", "test",
            ])
        let line = try server.waitForLine(containing: "ACCEPT ")
        let port = try #require(line.split(separator: ":").last.flatMap { UInt16($0) })
        let client = try Certificates.client {
            $0.maximumVersion = version
            $0.applicationProtocols = ["test"]
        }
        for isResumed in [false, true] {
            var info: TLS.Info?
            let loop = try EventLoop(engine: engine)
            let served = Served(
                try loop.connect(
                    to: .ipv4("127.0.0.1", port: Int(port)), tls: client, serverName: "localhost"))
            served.onOpen = { connection in
                info = connection.tls
                connection.write("hello\n")
            }
            served.onData = { [unowned served] connection, _ in if served.text.hasSuffix("\n") { connection.end() } }
            try loop.run(until: { served.isClosed })
            #expect(served.text == "olleh\n")
            #expect(served.reason == .localClose)
            #expect(info?.version == version && info?.applicationProtocol == "test" && info?.isResumed == isResumed)
        }
    }

    @Test(arguments: Engine.allCases)
    func `Python's ssl answers, asks for a certificate, and ends properly`(engine: Engine) throws {
        let script = """
            import socket, ssl, sys
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[1], sys.argv[2])
            context.load_verify_locations(sys.argv[3])
            context.verify_mode = ssl.CERT_REQUIRED
            listener = socket.create_server(("127.0.0.1", 0))
            print(listener.getsockname()[1], flush=True)
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as client:
                subject = dict(pair[0] for pair in client.getpeercert()["subject"])
                client.sendall(client.recv(100) + subject["commonName"].encode() + b"\\n")
                assert client.recv(100) == b""
                client.unwrap()
            """
        let server = try ChildProcess(
            "/usr/bin/python3",
            [
                "-c", script, Certificates.path("chain.pem"), Certificates.path("leaf.key"),
                Certificates.path("root.pem"),
            ])
        let port = try #require(UInt16(try server.readLine()))
        let client = try TLS.Client(trust: Certificates.trust(), identity: Certificates.identity("client"))
        let served = try exchange(engine, port: port, client, "hello ", until: { $0.hasSuffix("\n") })
        #expect(served.text == "hello client\n")
        #expect(served.events == ["open", "data", "end", "close"])
        #expect(try server.waitForExit(timeLimit: .seconds(30)) == .exited(0))
    }

    /// On every loop of a group, with one configuration.
    @Test(arguments: Engine.allCases, EventLoop.Group.Distribution.allCases)
    func `a group speaks TLS on all its loops`(engine: Engine, distribution: EventLoop.Group.Distribution) throws {
        let group = try EventLoop.Group(engine: engine, count: 2)
        let listener = try group.listen(
            on: .ipv4("127.0.0.1", port: 0), tls: Certificates.server(), distribution: distribution
        ) { _ in { connection in connection.onData = { connection, bytes in connection.write(bytes) } } }
        let address = listener.localAddress
        let tls = try Certificates.client()
        var answered = 0
        for number in 0..<20 {
            let connection = try group.loop.connect(to: address, tls: tls)
            let text = "hello \(number)"
            var received = ""
            connection.onOpen = { $0.write(text) }
            connection.onData = { connection, bytes in
                received += String(validating: bytes) ?? ""
                if received == text { connection.close() }
            }
            connection.onClose = { _, reason in
                #expect(reason == .localClose)
                answered += 1
                if answered == 20 { group.stop() }
            }
        }
        try group.run()
        #expect(answered == 20)
    }
}
