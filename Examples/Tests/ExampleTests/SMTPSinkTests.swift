import CallbackServer
import ExampleTestSupport
import Foundation
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `SMTP sink` {
    // MARK: Real clients

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `curl sends mail over TLS, and verifies the server`(engine: Engine, version: TLSVersion) throws {
        let sink = try start(engine)
        let options = ["-sS", "--mail-from", "ann@example.test", "--mail-rcpt", "bob@example.test"]
        let secured = try options + ["--ssl-reqd", "--cacert", Certificates.roots(), "--tls-max", version.rawValue]
        let mail = "Subject: x\r\n\r\n.hidden\r\nText\r\n"
        let url = "smtp://localhost:\(sink.port)"
        _ = try run("curl", secured + ["--mail-rcpt", "eve@example.test", "-T", "-", url], input: mail)
        #expect(try sink.child.readLine() == "Mail 1: \(mail.utf8.count) bytes for 2, TLS \(version.rawValue)")
        _ = try run("curl", options + ["-T", "-", url], input: mail)
        #expect(try sink.child.readLine() == "Mail 2: \(mail.utf8.count) bytes for 1, in clear")
        // 60: the certificate is not accepted.
        let stranger = try Certificates.path("stranger.pem")
        _ = try run(
            "curl", options + ["--ssl-reqd", "--cacert", stranger, "-T", "-", url], input: mail, status: 60)
        #expect(try sink.child.readLine().hasSuffix(" (tlsv1 alert unknown ca): EPROTO (protocol error)"))
        // Some 3 MB, in many records.
        let large = String(repeating: "This is a line of a mail.\r\n", count: 100_000)
        _ = try run("curl", secured + ["-T", "-", url], input: large)
        #expect(try sink.child.readLine() == "Mail 3: 2700000 bytes for 1, TLS \(version.rawValue)")
        try sink.stop()
    }

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `openssl begins TLS, and what was said before is forgotten`(engine: Engine, version: TLSVersion) throws {
        let sink = try start(engine)
        // Behind EHLO and STARTTLS of its own.
        let lines = [
            "MAIL FROM:<ann@example.test>", "EHLO me", "STARTTLS", "AUTH PLAIN AGFubgBib2I=",
            "MAIL FROM:<ann@example.test> BODY=8BITMIME SIZE=5", "RCPT TO:<bob@example.test>", "DATA", "Text", ".",
            "QUIT",
        ]
        let options = [
            "s_client", "-connect", "127.0.0.1:\(sink.port)", "-starttls", "smtp", version.option, "-quiet",
            "-CAfile", try Certificates.roots(), "-verify_return_error", "-verify_hostname", "localhost",
        ]
        let output = try run("openssl", options, input: lines.map { "\($0)\r\n" }.joined())
        let replies = output.split(separator: "\r\n").map { String($0) }
        // `s_client` shows the last line of the greeting behind its own EHLO.
        let own = replies.firstIndex { $0.hasPrefix("503 ") } ?? 0
        #expect(
            replies[own...].map { $0.prefix(4) } == [
                "503 ", "250-", "250-", "250-", "250-", "250 ", "503 ", "502 ", "250 ", "250 ", "354 ", "250 ", "221 ",
            ], "\(output)")
        #expect(!replies[own...].contains { $0.contains("STARTTLS") })
        #expect(try sink.child.readLine() == "Mail 1: 6 bytes for 1, TLS \(version.rawValue)")
        try sink.stop()
    }

    @Test(arguments: Engine.allCases)
    func `Python's smtplib sends mail, in clear and over TLS`(engine: Engine) throws {
        let sink = try start(engine)
        let script = """
            import smtplib, ssl, sys
            with smtplib.SMTP("localhost", int(sys.argv[2])) as client:
                client.sendmail("ann@a", ["bob@b"], "Subject: x\\r\\n\\r\\nin clear\\r\\n")
                client.starttls(context=ssl.create_default_context(cafile=sys.argv[1]))
                client.sendmail("ann@a", ["bob@b", "eve@b"], "Subject: x\\r\\n\\r\\nsealed\\r\\n")
                try:
                    client.login("ann", "secret")
                except smtplib.SMTPNotSupportedError:
                    print("no AUTH")
            """
        #expect(try run("python3", ["-c", script, Certificates.roots(), "\(sink.port)"]) == "no AUTH\n")
        #expect(try sink.child.readLine() == "Mail 1: 24 bytes for 1, in clear")
        #expect(try sink.child.readLine() == "Mail 2: 22 bytes for 2, TLS 1.3")
        try sink.stop()
    }

    // MARK: STARTTLS

    /// RFC 3207, section 6; CVE-2011-0411: whoever is in between could put commands in front of the client's.
    @Test(
        arguments: Engine.allCases,
        [
            "STARTTLS\r\nRSET\r\n", "STARTTLS\r\nR", "STARTTLS\r\n\u{16}\u{3}\u{1}",
            "NOOP\r\nSTARTTLS\r\nNOOP\r\nNOOP\r\n",
        ])
    func `what comes in clear behind STARTTLS ends the connection`(engine: Engine, input: String) throws {
        let sink = try start(engine)
        let client = try greeted(sink)
        let behind = input.utf8.count - input.utf8.count(upTo: "STARTTLS\r\n")
        try client.send(input)
        let answer = String(decoding: try client.receiveUntilOver().bytes, as: UTF8.self)
        #expect(answer == (input.hasPrefix("NOOP") ? noop : "") + "220 2.0.0 Go on with TLS\r\n")
        let error = "(the peer sent \(behind) bytes in clear behind its request for TLS): EPROTO (protocol error)"
        #expect(try sink.child.readLine().hasSuffix(error))
        client.close()
        try sink.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a command in clear in the place of the handshake ends the connection`(engine: Engine) throws {
        let sink = try start(engine)
        let client = try greeted(sink)
        try client.ask("STARTTLS\r\n", "220 2.0.0 Go on with TLS\r\n")
        try client.send("RSET\r\nQUIT\r\n")
        #expect(try client.receiveUntilOver().bytes == [])
        #expect(try sink.child.readLine().hasSuffix("(wrong version number): EPROTO (protocol error)"))
        client.close()
        try sink.stop()
    }

    // MARK: Commands

    private let noop = "250 2.0.0 Nothing done\r\n"

    @Test(arguments: Engine.allCases)
    func `commands out of order, wrong and unknown ones are refused, and nothing is lost`(engine: Engine) throws {
        let sink = try start(engine)
        let client = try sink.client()
        try client.expect("220 localhost ESMTP smtp-sink\r\n")
        for (command, status) in [
            ("MAIL FROM:<a@b>", 503), ("EHLO", 501), ("RSET", 250), ("RCPT TO:<a@b>", 503), ("HELO me", 250),
            ("DATA", 503), ("MAIL FROM:a@b", 501), ("MAIL TO:<a@b>", 501), ("MAIL FROM:<a@b", 501),
            ("MAIL FROM:<a@b>X", 501), ("MAIL FROM:<a@b> X=Y", 555), ("MAIL FROM:<a@b> SIZE=10485761", 552),
            ("MAIL FROM:<a@b> SIZE=99999999999999999999", 552), ("mail from: <> size=10485760 body=7bit", 250),
            ("MAIL FROM:<>", 503), ("DATA", 554), ("RCPT TO:<>", 501), ("RCPT TO:<a@b> NOTIFY=NEVER", 555),
            (#"RCPT TO:<"a>\"b"@c>"#, 250), ("DATA now", 501), ("STARTTLS now", 501), ("AUTH LOGIN", 502),
            ("BDAT 5 LAST", 502), ("VRFY bob", 252), ("HELP", 502), ("GET / HTTP/1.1", 500), ("", 500),
            ("NO\tOP", 500), ("NO\nOP", 500), ("n\u{e9}", 500), ("noop  x ", 250), ("RSET", 250), ("DATA", 503),
        ] {
            try client.send("\(command)\r\n")
            let reply = try client.receiveLine()
            #expect(reply.hasPrefix("\(status) ") && reply.hasSuffix("\r"), "\(command): \(reply)")
        }
        try client.ask("QUIT\r\nNOOP\r\n", "221 2.0.0 Goodbye\r\n")
        try client.expectEnd()
        client.close()
        try sink.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a mail ends with a dot alone between whole line ends`(engine: Engine) throws {
        let sink = try start(engine)
        let client = try greeted(sink)
        let envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
        let taken = "250 2.1.0 Sender taken\r\n250 2.1.5 Recipient taken\r\n354 A line with a dot ends it\r\n"
        for (text, count) in [("", 0), ("\r\n", 2), ("..\r\n", 3), ("a\n.\nb\r.\rc\n.\r\n", 13), ("QUIT\r\n", 6)] {
            let mail = Array("\(text).\r\n\(text.isEmpty ? "" : "NOOP\r\n")".utf8)
            try client.ask(envelope, taken)
            // In whole, and byte by byte.
            if count % 2 == 0 { try client.send(mail) } else { for byte in mail { try client.send([byte]) } }
            try client.expect("250 2.0.0 Dropped\r\n" + (text.isEmpty ? "" : noop))
            #expect(try sink.child.readLine().hasSuffix(": \(count) bytes for 1, in clear"))
        }
        client.close()
        try sink.stop()
    }

    @Test(arguments: Engine.allCases)
    func `every bound is kept`(engine: Engine) throws {
        let sink = try start(engine)
        let client = try greeted(sink)
        try client.ask("MAIL FROM:<a@b>\r\n", "250 2.1.0 Sender taken\r\n")
        for _ in 0..<100 { try client.ask("RCPT TO:<c@d>\r\n", "250 2.1.5 Recipient taken\r\n") }
        try client.ask("RCPT TO:<c@d>\r\n", "452 4.5.3 Too many recipients\r\n")
        try client.ask("DATA\r\n", "354 A line with a dot ends it\r\n")
        let memory = try peakResidentBytes(of: sink.child)
        let line = String(repeating: "x", count: 16 * 1024) + "\r\n"
        for _ in 0..<640 { try client.send(line) }
        try client.ask(".\r\n", "552 5.3.4 Too large\r\n")
        #expect(try peakResidentBytes(of: sink.child) - memory < 4 << 20)
        try client.send("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + line + "x" + line)
        _ = try client.receiveUntilOver()
        #expect(try sink.child.readLine().contains("EMSGSIZE"))
        client.close()
        try sink.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a pipeline whose replies nobody reads waits, and costs no memory`(engine: Engine) throws {
        let sink = try start(engine)
        let client = try sink.client(receiveBuffer: 4_096)
        let memory = try peakResidentBytes(of: sink.child)
        // The replies are 14 times as long.
        _ = try client.sendUntilFull(Array(String(repeating: "EHLO x\r\n", count: 50_000).utf8), most: 64 << 20)
        let other = try greeted(sink)
        for _ in 0..<300 { try other.ask("NOOP\r\n", noop) }
        other.close()
        #expect(try peakResidentBytes(of: sink.child) - memory < 16 << 20)
        try client.reset()
        try sink.stop()
    }

    @Test(arguments: Engine.allCases)
    func `SIGTERM ends sessions at rest, and the others behind their mail`(engine: Engine) throws {
        let sink = try start(engine)
        let (resting, busy) = (try greeted(sink), try greeted(sink))
        try busy.send("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nText\r\n")
        while try busy.receiveLine() != "354 A line with a dot ends it\r" {}
        sink.child.signal(SIGTERM)
        let goodbye = "421 4.3.2 localhost closes\r\n"
        try resting.expect(goodbye)
        try resting.expectEnd()
        resting.close()
        try busy.ask("more\r\n.\r\n", "250 2.0.0 Dropped\r\n" + goodbye)
        try busy.expectEnd()
        busy.close()
        #expect(try sink.child.waitForExit() == .exited(0))
        #expect(sink.child.standardOutputText.contains("Mail 1: 12 bytes for 1, in clear\n"))
    }

    @Test func `a key that does not fit is told in one line`() throws {
        let child = try Example.start("smtp-sink", ["--port", "0"] + Certificates.server("chain.pem", "other.key"))
        #expect(try child.waitForExit() == .exited(1))
        #expect(child.standardErrorText.hasSuffix("/other.key: the private key does not belong to the certificate\n"))
    }

    // MARK: Helpers

    private func start(_ engine: Engine) throws -> Example {
        try Example("smtp-sink", engine, Certificates.server())
    }

    /// A client that has said EHLO.
    private func greeted(_ sink: Example) throws -> PlainClient {
        let client = try sink.client()
        try client.expect("220 localhost ESMTP smtp-sink\r\n")
        try client.ask(
            "EHLO me\r\n",
            "250-localhost\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-STARTTLS\r\n"
                + "250 ENHANCEDSTATUSCODES\r\n")
        return client
    }
}

extension String.UTF8View {
    /// How many bytes there are up to the end of `text`.
    fileprivate func count(upTo text: String) -> Int {
        let whole = String(self)
        return whole.range(of: text).map { whole[..<$0.upperBound].utf8.count } ?? 0
    }
}
