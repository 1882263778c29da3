import CallbackServer
import ExampleTestSupport
import Foundation
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `HTTPS hello` {
    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `curl gets the page under names that the certificate is for`(engine: Engine, version: TLSVersion) throws {
        let server = try start(engine)
        let options = try ["-sS", "--cacert", Certificates.roots(), "--tlsv\(version.rawValue)"]
        let log = options + ["--tls-max", version.rawValue, "-w", " %{http_version} %{num_connects}\n"]
        let page = "Hello, world!\n 1.1 "
        for name in ["localhost", "127.0.0.1"] {
            let url = "https://\(name):\(server.port)/"
            #expect(try run("curl", log + [url, url]) == page + "1\n" + page + "0\n")
        }
        let name = "www.example.test:\(server.port)"
        let verbose = try ChildProcess(
            try tool("curl"), log + ["-v", "--resolve", "\(name):127.0.0.1", "https://\(name)/"])
        #expect(try verbose.waitForExit(timeLimit: Example.patience) == .exited(0), "\(verbose.standardErrorText)")
        #expect(verbose.standardOutputText == page + "1\n")
        for line in ["SSL connection using TLSv\(version.rawValue)", "ALPN: server accepted http/1.1"] {
            #expect(verbose.standardErrorText.contains(line), "\(verbose.standardErrorText)")
        }
        // A URI of plain HTTP is another server's.
        let request = "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
        #expect(try sClient(server, [version.option], request).contains("\nHTTP/1.1 421 Misdirected Request\r\n"))
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `curl refuses another name and an unknown root`(engine: Engine) throws {
        let server = try start(engine)
        let name = "other.test:\(server.port)"
        let resolve = ["-sS", "--resolve", "\(name):127.0.0.1"]
        // 60: the certificate is not accepted.
        _ = try run("curl", resolve + ["--cacert", Certificates.roots(), "https://\(name)/"], status: 60)
        let stranger = try Certificates.path("stranger.pem")
        _ = try run("curl", ["-sS", "--cacert", stranger, "https://localhost:\(server.port)/"], status: 60)
        try server.child.waitForLine(containing: "for localhost: alert: tlsv1 alert unknown ca")
        try server.stop()
    }

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `a client has to show a certificate, if that was asked for`(engine: Engine, version: TLSVersion) throws {
        let server = try start(engine, ["--client-ca", Certificates.roots()])
        let options = try ["-sS", "--cacert", Certificates.roots(), "--tls-max", version.rawValue]
        func identity(_ name: String) throws -> [String] {
            try ["--cert", Certificates.path("\(name).pem"), "--key", Certificates.path("\(name).key")]
        }
        let url = "https://localhost:\(server.port)/"
        #expect(try run("curl", options + identity("client") + [url, url]) == "Hello, world!\nHello, world!\n")
        for (others, cause) in [
            ([], "certificate: peer did not return a certificate"),
            (try identity("strange"), "certificate: unable to get local issuer certificate"),
        ] {
            let child = try ChildProcess(try tool("curl"), options + others + [url])
            let ended = try child.waitForExit(timeLimit: Example.patience)
            // With TLS 1.3 the client has done its part before it is refused: 56, not 35.
            #expect(ended == .exited(version == .tls13 ? 56 : 35), "\(child.standardErrorText)")
            try server.child.waitForLine(containing: "for localhost: \(cause)")
        }
        try server.stop()
    }

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `openssl resumes its session, and agrees on a protocol`(engine: Engine, version: TLSVersion) throws {
        let server = try start(engine)
        let directory = try TemporaryDirectory()
        let session = directory.path(of: "session")
        let options = [version.option, "-alpn", "h2,http/1.1"]
        let first = try sClient(server, options + ["-sess_out", session])
        let second = try sClient(server, options + ["-sess_in", session])
        for (output, start) in [(first, "New"), (second, "Reused")] {
            #expect(output.contains("\(start), TLSv\(version.rawValue), Cipher is "), "\(output)")
            #expect(output.contains("\nALPN protocol: http/1.1\n"), "\(output)")
            #expect(output.contains("HTTP/1.1 200 OK\r\n") && output.contains("\nHello, world!\n"), "\(output)")
            // By close_notify.
            #expect(output.hasSuffix("closed\n"), "\(output)")
        }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `what cannot be agreed on is refused, and told`(engine: Engine) throws {
        let server = try start(engine)
        for (options, alert, cause) in [
            (["-alpn", "h2"], "alert no application protocol", "protocolError: no application protocol"),
            (
                ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert protocol version",
                "protocolError: unsupported protocol"
            ),
            (
                ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"], "alert handshake failure",
                "protocolError: no shared cipher"
            ),
        ] {
            let child = try openssl(server, options)
            try child.standardInput.halfClose()
            #expect(try child.waitForExit(timeLimit: Example.patience) == .exited(1))
            #expect(child.standardErrorText.contains(alert), "\(child.standardErrorText)")
            try server.child.waitForLine(containing: cause)
        }
        // 52: no answer.
        _ = try run("curl", ["-sS", "http://127.0.0.1:\(server.port)/"], status: 52)
        try server.child.waitForLine(containing: "protocolError: http request")
        let silent = try server.client()
        try silent.send([22, 3, 1])
        try silent.halfClose()
        _ = try silent.receiveUntilOver()
        try server.child.waitForLine(containing: "No handshake with 127.0.0.1:\(silent.localPort): peerClosed")
        silent.close()
        #expect(try sClient(server).contains("HTTP/1.1 200 OK\r\n"))
        try server.stop()
    }

    /// Twice each; the second time they resume their session.
    private func expectAnswers(_ output: String, _ version: TLSVersion, more: String = "") {
        let start = "TLSv\(version.rawValue) http/1.1"
        #expect(output == "\(start) new Hello, world!\n\(start) resumed Hello, world!\n\(more)")
    }

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `Python is a client`(engine: Engine, version: TLSVersion) throws {
        let server = try start(engine)
        let arguments = try [peer("https.py"), Certificates.roots(), "\(server.port)", version.rawValue]
        expectAnswers(try run("python3", arguments), version)
        try server.stop()
    }

    @Test(.needs("node", from: "nodejs"), arguments: Engine.allCases, TLSVersion.allCases)
    func `Node is a client`(engine: Engine, version: TLSVersion) throws {
        let server = try start(engine)
        let arguments = try [peer("https.js"), Certificates.roots(), "\(server.port)", version.rawValue]
        expectAnswers(try run("node", arguments), version, more: "ERR_TLS_CERT_ALTNAME_INVALID\n")
        try server.stop()
    }

    @Test(.needs("go", from: "golang-go"), arguments: TLSVersion.allCases)
    func `Go is a client`(version: TLSVersion) throws {
        let directory = try TemporaryDirectory()
        let program = directory.path(of: "https")
        // Nothing but the standard library, and nothing from the network.
        let environment = ["GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOCACHE": directory.path(of: "cache")]
        let compiler = try ChildProcess(
            try tool("go"), ["build", "-o", program, peer("https.go")], environment: environment)
        #expect(try compiler.waitForExit(timeLimit: .seconds(600)) == .exited(0), "\(compiler.standardErrorText)")
        for engine in Engine.allCases {
            let server = try start(engine)
            let client = try ChildProcess(
                program, [Certificates.roots(), "\(server.port)", version.rawValue])
            #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(0), "\(client.standardErrorText)")
            expectAnswers(client.standardOutputText, version)
            try server.stop()
        }
    }

    @Test(arguments: Engine.allCases)
    func `wrk finds nothing amiss`(engine: Engine) throws {
        let server = try start(engine)
        let output = try run("wrk", ["-t", "1", "-c", "20", "-d", "1", "https://127.0.0.1:\(server.port)/"])
        #expect(output.contains("Requests/sec"), "\(output)")
        #expect(!output.contains("Non-2xx") && !output.contains("Socket errors"), "\(output)")
        try server.stop()
    }

    // MARK: The files

    @Test(arguments: [
        ("chain.pem", "other.key", "/other.key: the private key does not belong to the certificate"),
        ("none.pem", "leaf.key", "/none.pem): ENOENT (no such file, directory or host)"),
        ("chain.pem", "none.key", "/none.key): ENOENT (no such file, directory or host)"),
        ("chain.pem", "encrypted.key", "/encrypted.key: the private key is encrypted, and no passphrase fits"),
        ("text.pem", "leaf.key", "/text.pem: there is no certificate in it that can be read"),
        ("damaged.pem", "leaf.key", "/damaged.pem: there is no certificate in it that can be read"),
        ("chain.pem", "text.pem", "/text.pem: there is no private key in it that can be read"),
        ("weak.pem", "weak.key", "/weak.pem: ee key too small"),
    ])
    func `files that do not do are told in one line`(certificate: String, key: String, error: String) throws {
        for engine in Engine.allCases {
            let child = try Example.start(
                "https-hello", ["--engine", engine.rawValue, "--port", "0"] + Certificates.server(certificate, key))
            // Nobody answers a question for a passphrase.
            #expect(try child.waitForExit() == .exited(1))
            let text = child.standardErrorText
            #expect(text.hasPrefix("Error: ") && text.hasSuffix("\(error)\n"), "\(text)")
            #expect(text.count { $0 == "\n" } == 1 && child.standardOutputText == "", "\(text)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `SIGHUP takes new files while curl goes on, and loses no request`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let (certificate, key) = (directory.path(of: "certificate"), directory.path(of: "key"))
        func put(_ name: String, _ keyName: String) throws {
            for (from, to) in [("\(name).pem", certificate), ("\(keyName).key", key)] {
                try Data(contentsOf: URL(filePath: try Certificates.path(from))).write(to: URL(filePath: to))
            }
        }
        try put("chain", "leaf")
        let server = try Example("https-hello", engine, ["--certificate", certificate, "--key", key])
        let both = try ["root.pem", "stranger.pem"].map { try Data(contentsOf: URL(filePath: Certificates.path($0))) }
        try (both[0] + both[1]).write(to: URL(filePath: directory.path(of: "roots")))
        // A new connection for each request, until curl fails or is told to stop.
        let loop = """
            while [ ! -e "$3" ]; do "$0" -sS --cacert "$1" -H 'Connection: close' -o /dev/null \
                -w '%{http_code} %{num_connects}\\n' "https://localhost:$2/?[1-20]" || exit 1; done
            """
        let (roots, stop) = (directory.path(of: "roots"), directory.path(of: "stop"))
        let curl = try ChildProcess("/bin/sh", ["-c", loop, tool("curl"), roots, "\(server.port)", stop])
        for _ in 0..<10 {
            for (name, keyName, subject) in [("strange", "strange", "strange"), ("chain", "leaf", "localhost")] {
                #expect(try curl.readLine(timeLimit: Example.patience) == "200 1")
                try put(name, keyName)
                server.child.signal(SIGHUP)
                #expect(try server.child.readLine() == "Reloaded")
                #expect(try sClient(server, roots: roots).contains("subject=CN = \(subject)\n"))
            }
        }
        // Wrong files change nothing.
        try put("chain", "other")
        server.child.signal(SIGHUP)
        #expect(
            try server.child.readLine()
                == "Not reloaded: \(key): the private key does not belong to the certificate")
        #expect(try sClient(server, roots: roots).contains("subject=CN = localhost\n"))
        try Data().write(to: URL(filePath: stop))
        #expect(try curl.waitForExit(timeLimit: Example.patience) == .exited(0), "\(curl.standardErrorText)")
        let answers = curl.standardOutputText.split(separator: "\n")
        #expect(answers.count >= 20 && answers.allSatisfy { $0 == "200 1" }, "\(answers)")
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `SIGTERM says goodbye with close_notify, and waits for no handshake`(engine: Engine) throws {
        let server = try start(engine, ["--drain", "2"])
        // Accepted before the one that follows.
        let silent = try server.client()
        let client = try openssl(server, ["-quiet"])
        try client.standardInput.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try client.waitForLine(containing: "Hello, world!", timeLimit: Example.patience)
        server.child.signal(SIGTERM)
        try server.child.waitForLine(containing: "Draining, with 2 connections")
        // Without it, s_client would tell of an unexpected end.
        #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(0), "\(client.standardErrorText)")
        #expect(!client.standardErrorText.contains("unexpected eof"), "\(client.standardErrorText)")
        #expect(try server.child.waitForExit() == .exited(0))
        #expect(server.child.standardOutputText.contains("No handshake with 127.0.0.1:\(silent.localPort): closed: "))
    }

    @Test(arguments: [("http-hello", false), ("proxy", false), ("https-hello", true)])
    func `only what speaks TLS links OpenSSL`(program: String, links: Bool) throws {
        let libraries = try run("ldd", [ChildProcess.pathOfBuiltProduct(program)])
        #expect(libraries.contains("libssl") == links && libraries.contains("libcrypto") == links, "\(libraries)")
    }

    // MARK: Helpers

    private func start(_ engine: Engine, _ arguments: [String] = []) throws -> Example {
        try Example("https-hello", engine, Certificates.server() + arguments)
    }

    private func openssl(_ server: Example, _ options: [String], roots: String? = nil) throws -> ChildProcess {
        let roots = try roots ?? Certificates.roots()
        let common = [
            "s_client", "-connect", "127.0.0.1:\(server.port)", "-servername", "localhost", "-CAfile", roots,
            "-verify_return_error", "-verify_hostname", "localhost", "-ign_eof",
        ]
        return try ChildProcess(try tool("openssl"), common + options)
    }

    /// What `openssl s_client` writes for one request behind a handshake with a server that it trusts.
    private func sClient(
        _ server: Example, _ options: [String] = [],
        _ request: String = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", roots: String? = nil
    ) throws -> String {
        let child = try openssl(server, options, roots: roots)
        try child.standardInput.send(request)
        try child.standardInput.halfClose()
        #expect(try child.waitForExit(timeLimit: Example.patience) == .exited(0), "\(child.standardErrorText)")
        return child.standardOutputText
    }
}
