import CallbackServer
import CallbackTLS
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Certificates and keys` {
    private func error(_ body: () throws -> Void) -> TLS.ConfigurationError? {
        do {
            try body()
            return nil
        } catch {
            return error as? TLS.ConfigurationError
        }
    }

    @Test func `that cannot be used are refused with a named error`() throws {
        func server(_ certificate: String, _ key: String, passphrase: String? = nil) -> TLS.ConfigurationError? {
            error {
                _ = try TLS.Server(
                    certificateChain: .file(Certificates.path(certificate)),
                    privateKey: .file(Certificates.path(key), passphrase: passphrase))
            }
        }
        func path(_ name: String) throws -> String { try Certificates.path(name) }
        #expect(server("chain.pem", "leaf.key") == nil)
        #expect(server("chain.pem", "encrypted.key", passphrase: "secret") == nil)
        #expect(server("chain.pem", "other.key") == .keyDoesNotFit(try path("other.key")))
        #expect(server("chain.pem", "encrypted.key") == .encryptedPrivateKey(try path("encrypted.key")))
        #expect(
            server("chain.pem", "encrypted.key", passphrase: "wrong") == .encryptedPrivateKey(try path("encrypted.key"))
        )
        #expect(server("text.pem", "leaf.key") == .noCertificate(try path("text.pem")))
        #expect(server("damaged.pem", "leaf.key") == .noCertificate(try path("damaged.pem")))
        #expect(server("chain.pem", "text.pem") == .noPrivateKey(try path("text.pem")))
        guard case .refused(let reason) = server("weak.pem", "weak.key") else {
            Issue.record("a weak key is accepted")
            return
        }
        #expect(reason.contains("ee key too small"))
        guard case .unreadable(let missing) = server("missing.pem", "leaf.key") else {
            Issue.record("a missing file is no error")
            return
        }
        let path = try path("missing.pem")
        #expect(missing.name == "ENOENT" && missing.detail == path)
        // A file without an end.
        let endless = error { _ = try TLS.Client(trust: .certificates(.file("/dev/zero"))) }
        guard case .unreadable(let large) = endless else {
            Issue.record("\(endless as Any)")
            return
        }
        #expect(large.name == "EFBIG" || large.errno == 27)
    }

    @Test func `may be given as text`() throws {
        func text(_ name: String) throws -> String { try contents(ofFile: Certificates.path(name)) }
        _ = try TLS.Server(certificateChain: .pem(text("chain.pem")), privateKey: .pem(text("leaf.key")))
        let empty = error { _ = try TLS.Server(certificateChain: .pem(""), privateKey: .pem("")) }
        #expect(empty == .noCertificate("the text given"))
    }

    @Test func `options out of bounds are refused`() throws {
        let changes: [(inout TLS.Server.Options) -> Void] = [
            { $0.handshakeTimeout = .zero }, { $0.maxHandshakes = 0 }, { $0.ticketKeyLifetime = .zero },
            { $0.applicationProtocols = [""] }, { $0.applicationProtocols = [String(repeating: "x", count: 256)] },
            {
                $0.minimumVersion = .tls13
                $0.maximumVersion = .tls12
            },
        ]
        for change in changes {
            guard case .invalid = error({ _ = try Certificates.server(change) }) else {
                Issue.record("an option out of bounds is accepted")
                continue
            }
        }
        guard case .invalid = error({ _ = try TLS.Server(identities: []) }) else {
            Issue.record("a server without an identity is accepted")
            return
        }
    }

    @Test(arguments: Engine.allCases)
    func `secrets are written where an option says, and nowhere else`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let log = directory.path(of: "keys")
        let stage = try TLSStage(engine, Certificates.server { $0.keyLogFile = log })
        let client = try stage.connect()
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        #expect(try contents(ofFile: log).contains("SERVER_TRAFFIC_SECRET_0 "))
    }

    /// Nothing to verify a certificate by: refused, unless verification is off.
    @Test(arguments: Engine.allCases)
    func `a client needs a name to verify`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let directory = try TemporaryDirectory()
        let address = try SocketAddress.unix(path: directory.path(of: "socket"))
        let listener = try loop.listen(on: address, tls: Certificates.server()) { _ in }
        #expect(throws: IOError.self) { try loop.connect(to: address, tls: Certificates.client()) }
        var opens = 0
        for client in [
            try loop.connect(to: address, tls: Certificates.client(), serverName: "localhost"),
            try loop.connect(to: address, tls: TLS.Client(trust: .anyoneWithoutVerification)),
        ] {
            client.onOpen = { connection in
                opens += 1
                connection.close()
            }
        }
        try loop.run(until: { opens == 2 })
        listener.close()
    }
}
