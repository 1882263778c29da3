import CallbackServer
import CallbackTLS
import ServerTestSupport
import TestSupport
import Testing

/// A connection that speaks in clear first (RFC 3207).
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `STARTTLS` {
    /// A server that answers lines, and speaks TLS when asked to; and what it was told.
    private final class Mail {
        let loop: EventLoop
        private(set) var listener: Listener!
        private(set) var lines: [String] = []
        private(set) var secured = 0
        private(set) var opens = 0
        private(set) var reasons: [CloseReason] = []

        init(_ engine: Engine, connectTimeout: Duration = .seconds(30)) throws {
            loop = try EventLoop(engine: engine)
            let tls = try Certificates.server()
            var options = Listener.Options()
            options.connection.timeouts.connect = connectTimeout
            listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { [unowned self] connection in
                connection.onOpen = { [unowned self] _ in self.opens += 1 }
                connection.onLines { [unowned self] connection, line in
                    let line = String(validating: line) ?? ""
                    self.lines.append("\(connection.tls == nil ? "clear" : "secure") \(line)")
                    guard line == "STARTTLS" else { return }
                    connection.write("go ahead\n")
                    connection.startTLS(tls) { connection in
                        self.secured += 1
                        connection.write("welcome\n")
                    }
                }
                connection.onClose = { [unowned self] _, reason in self.reasons.append(reason) }
            }
        }
    }

    @Test(arguments: Engine.allCases)
    func `both sides go on in TLS on the same connection`(engine: Engine) throws {
        let mail = try Mail(engine)
        let tls = try Certificates.client()
        let client = try mail.loop.connect(to: mail.listener.localAddress)
        var told: [String] = []
        var isClosed = false
        client.write("HELLO\nSTARTTLS\n")
        client.onOpen = { _ in told.append("open") }
        client.onLines { connection, line in
            let line = String(validating: line) ?? ""
            told.append(line)
            switch line {
            case "go ahead":
                try? connection.startTLS(tls, serverName: "localhost") { connection in
                    told.append("secured \(connection.tls?.peerCertificates.first?.subject ?? "")")
                    connection.write("SECRET\n")
                }
                connection.write("HELD\n")
            case "welcome": connection.end()
            default: Issue.record("\(line)")
            }
        }
        client.onClose = { _, _ in isClosed = true }
        try mail.loop.run(until: { isClosed && mail.reasons.count == 1 })
        #expect(told == ["open", "go ahead", "secured CN=localhost", "welcome"])
        #expect(mail.lines == ["clear HELLO", "clear STARTTLS", "secure HELD", "secure SECRET"])
        #expect(mail.reasons == [.peerClosed])
        #expect(mail.secured == 1)
        #expect(mail.opens == 0, "an accepted connection is open already")
    }

    /// CVE-2011-0411: what somebody in between lays behind the request would be taken for the client's.
    @Test(arguments: Engine.allCases, ["STARTTLS\nINJECTED\n", "STARTTLS\nINJ", "STARTTLS\nA\nB\n"])
    func `what came in clear behind the request is refused`(engine: Engine, request: String) throws {
        let mail = try Mail(engine)
        let client = try mail.loop.connect(to: mail.listener.localAddress)
        client.write(request)
        try mail.loop.run(until: { mail.reasons.count == 1 })
        #expect(mail.lines == ["clear STARTTLS"])
        #expect(mail.secured == 0)
        guard case .failed(let error) = mail.reasons[0] else {
            Issue.record("\(mail.reasons)")
            return
        }
        #expect(error.name == "EPROTO" && error.call == "startTLS")
    }

    @Test(arguments: Engine.allCases)
    func `a client that does not go on is ended by the connect time-out`(engine: Engine) throws {
        let mail = try Mail(engine, connectTimeout: .milliseconds(50))
        let client = try mail.loop.connect(to: mail.listener.localAddress)
        client.write("STARTTLS\n")
        try mail.loop.run(until: { mail.reasons.count == 1 })
        #expect(mail.reasons == [.timedOut(.connect)])
    }

    /// As PostgreSQL's clients may.
    @Test(arguments: Engine.allCases)
    func `a handshake that came with the request goes on`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let tls = try Certificates.server()
        var text = ""
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            connection.onData = { connection, bytes in
                guard connection.tls == nil else {
                    text += String(validating: bytes) ?? ""
                    return
                }
                #expect(bytes[0] == UInt8(ascii: "S"))
                connection.startTLS(tls, unread: bytes.extracting(droppingFirst: 1)) { _ in }
            }
        }
        // The request and the client's first flight in one segment.
        let wire = try Wire(loop, to: listener.localAddress)
        wire.change = { [unowned wire] isFromClient, bytes in
            isFromClient && wire.fromClient == bytes.count ? [UInt8(ascii: "S")] + bytes : bytes
        }
        let client = try loop.connect(to: wire.listener.localAddress, tls: Certificates.client())
        client.write("hello")
        try loop.run(until: { text == "hello" })
    }

    @Test(arguments: Engine.allCases)
    func `a connection whose peer has ended, or that had TLS and is closed, does nothing`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let server = try Certificates.server()
        var options = Listener.Options()
        options.connection.allowsHalfOpen = true
        var ends = 0
        let plain = try stage.loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { connection in
            connection.onEnd = { connection in
                connection.startTLS(server) { _ in Issue.record("secured") }
                ends += 1
                connection.close()
            }
        }
        let ending = try stage.loop.connect(to: plain.localAddress)
        ending.end()
        let client = try stage.connect()
        client.onOpen = { $0.close() }
        try stage.run(until: { ends == 1 && client.isClosed })
        client.connection.startTLS(server) { _ in Issue.record("secured") }
    }

    @Test(arguments: Engine.allCases)
    func `a connection that is closed, or has ended, does nothing`(engine: Engine) throws {
        let mail = try Mail(engine)
        let client = try mail.loop.connect(to: mail.listener.localAddress)
        client.end()
        try client.startTLS(Certificates.client(), serverName: "localhost") { _ in Issue.record("secured") }
        let server = try Certificates.server()
        var isClosed = false
        client.onClose = { connection, _ in
            isClosed = true
            connection.startTLS(server) { _ in Issue.record("secured") }
        }
        try mail.loop.run(until: { isClosed })
        client.startTLS(server) { _ in Issue.record("secured") }
    }
}
