import CallbackServer
import CallbackTLS
import TestSupport
import Testing

/// Who is accepted, who is refused, and what it costs the others.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Handshakes` {
    // MARK: The server's certificate

    @Test(arguments: Engine.allCases)
    func `a client refuses a server for another host, of another root, or out of date`(engine: Engine) throws {
        let cases: [(identity: (String, String), name: String?, says: String)] = [
            (("chain", "leaf"), "wrong.test", "hostname mismatch"),
            (("other", "other"), nil, "IP address mismatch"),
            (("strange", "strange"), nil, "unable to get local issuer certificate"),
            (("expired", "leaf"), nil, "certificate has expired"),
            (("rsa", "rsa"), nil, "self-signed certificate"),
            // Its common name is no host's name.
            (("common", "common"), "localhost", "hostname mismatch"),
        ]
        for (identity, name, says) in cases {
            let server = try TLS.Server(identities: [Certificates.identity(identity.0, key: identity.1)])
            let stage = try TLSStage(engine, server)
            let client = Served(
                try stage.loop.connect(
                    to: stage.listener.localAddress, tls: Certificates.client(), serverName: name))
            try stage.run(until: { client.isClosed && stage.failures.count == 1 })
            #expect(client.failure == .certificate(says))
            #expect(client.events == ["close"])
            guard case .failed(let error) = client.reason else {
                _ = Issue.record("\(client.reason as Any)")
                return
            }
            #expect(error.detail == says && error.name == "EPROTO" && error.address == stage.listener.localAddress)
            // The client has told it with an alert.
            guard case .alert = stage.failures[0].cause else {
                _ = Issue.record("\(stage.failures)")
                return
            }
            #expect(stage.failures[0].serverName == name)
        }
    }

    /// X509_check_host(3) would take `.example.test` for any host below it.
    @Test(arguments: Engine.allCases, ["", ".example.test", "a b", "a..b", "localhost\0.other.test", "1.2.3"])
    func `a name that cannot be a host's is refused`(engine: Engine, name: String) throws {
        let stage = try TLSStage(engine)
        #expect(throws: IOError.self) {
            try stage.loop.connect(to: stage.listener.localAddress, tls: Certificates.client(), serverName: name)
        }
        let plain = try stage.loop.connect(to: stage.listener.localAddress)
        #expect(throws: IOError.self) { try plain.startTLS(Certificates.client(), serverName: name) { _ in } }
    }

    @Test(arguments: Engine.allCases)
    func `verification is on unless one loud name switches it off`(engine: Engine) throws {
        let stage = try TLSStage(engine, TLS.Server(identities: [Certificates.identity("expired", key: "leaf")]))
        let client = try stage.connect(TLS.Client(trust: .anyoneWithoutVerification))
        try stage.run(until: { client.isOpen })
        #expect(client.connection.tls?.peerCertificates.first?.subject == "CN=expired")
    }

    @Test(arguments: Engine.allCases)
    func `a server's identity is chosen by the name that the client asks for`(engine: Engine) throws {
        let server = try TLS.Server(
            identities: [Certificates.identity("chain", key: "leaf"), Certificates.identity("other")])
        let stage = try TLSStage(engine, server)
        let subjects = [
            ("other.test", "CN=other.test"), ("a.example.test", "CN=localhost"), ("localhost.", "CN=localhost"),
        ]
        for (name, subject) in subjects {
            let client = Served(
                try stage.loop.connect(
                    to: stage.listener.localAddress, tls: Certificates.client(), serverName: name))
            try stage.run(until: { client.isOpen })
            #expect(client.connection.tls?.peerCertificates.first?.subject == subject)
            client.connection.close()
        }
        #expect(stage.served[0].connection.tls == nil || stage.served[0].connection.tls?.serverName == "other.test")
    }

    @Test(arguments: Engine.allCases)
    func `a name that no identity has is refused if that is asked for`(engine: Engine) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.requiresKnownServerName = true })
        let client = Served(
            try stage.loop.connect(
                to: stage.listener.localAddress, tls: Certificates.client(), serverName: "who.test"))
        try stage.run(until: { client.isClosed })
        guard case .alert(let text) = client.failure else {
            _ = Issue.record("\(client.failure as Any)")
            return
        }
        #expect(text.contains("unrecognized name"))
        let unnamed = try stage.connect()
        try stage.run(until: { unnamed.isOpen })
    }

    // MARK: Clients' certificates

    @Test(arguments: Engine.allCases, TLS.Version.allCases)
    func `a client shows its certificate where one is required`(engine: Engine, version: TLS.Version) throws {
        let trust = try Certificates.trust()
        let stage = try TLSStage(
            engine,
            Certificates.server {
                $0.clientCertificates = .required(trust)
                $0.maximumVersion = version
            })
        let known = try stage.connect(TLS.Client(trust: trust, identity: Certificates.identity("client")))
        try stage.run(until: { known.isOpen && stage.served.first?.isOpen == true })
        #expect(stage.served[0].connection.tls?.peerCertificates.first?.subject == "CN=client")
        let unknown = try stage.connect(TLS.Client(trust: trust, identity: Certificates.identity("strange")))
        let nobody = try stage.connect()
        try stage.run(until: { unknown.isClosed && nobody.isClosed && stage.failures.count == 2 })
        for failure in stage.failures {
            guard case .certificate = failure.cause else {
                _ = Issue.record("\(failure)")
                return
            }
        }
        #expect(stage.served.dropFirst().allSatisfy { !$0.isOpen })
    }

    @Test(arguments: Engine.allCases)
    func `a certificate can be required of anybody`(engine: Engine) throws {
        let stage = try TLSStage(
            engine, Certificates.server { $0.clientCertificates = .required(.anyoneWithoutVerification) })
        let strange = try stage.connect(
            TLS.Client(trust: Certificates.trust(), identity: Certificates.identity("strange")))
        try stage.run(until: { stage.served.first?.isOpen == true })
        #expect(stage.served[0].connection.tls?.peerCertificates.first?.subject == "CN=strange")
        strange.connection.close()
        let nobody = try stage.connect()
        try stage.run(until: { nobody.isClosed && stage.failures.count == 1 })
        guard case .certificate = stage.failures[0].cause else {
            _ = Issue.record("\(stage.failures)")
            return
        }
    }

    // MARK: What was agreed on

    @Test(arguments: Engine.allCases)
    func `a protocol is chosen by the server's preference, and none in common is refused`(engine: Engine) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.applicationProtocols = ["h2", "http/1.1"] })
        let both = try stage.connect(Certificates.client { $0.applicationProtocols = ["http/1.1", "h2"] })
        let none = try stage.connect()
        try stage.run(until: { both.isOpen && none.isOpen })
        #expect(both.connection.tls?.applicationProtocol == "h2")
        #expect(none.connection.tls?.applicationProtocol == nil)
        let other = try stage.connect(Certificates.client { $0.applicationProtocols = ["imap"] })
        try stage.run(until: { other.isClosed })
        guard case .alert(let text) = other.failure else {
            _ = Issue.record("\(other.failure as Any)")
            return
        }
        #expect(text.contains("no application protocol"))
    }

    @Test(arguments: Engine.allCases, TLS.Version.allCases)
    func `a session is resumed, also after a change of certificate and of the ticket's key`(
        engine: Engine, version: TLS.Version
    ) throws {
        let server = try Certificates.server { $0.maximumVersion = version }
        let stage = try TLSStage(engine, server)
        stage.onConnection = { $0.echoes = true }
        let shared = try Certificates.client()
        func isResumed() throws -> Bool? {
            let client = try stage.connect(shared)
            client.onOpen = { $0.write("x") }
            try stage.run(until: { client.text == "x" })
            let answer = client.connection.tls?.isResumed
            client.connection.close()
            try stage.run(until: { client.isClosed })
            return answer
        }
        #expect(try isResumed() == false)
        #expect(try isResumed() == true)
        try server.replace(identities: [Certificates.identity("chain", key: "leaf")])
        #expect(try isResumed() == true)
        server.rotateTicketKey()
        #expect(try isResumed() == true, "with the key before")
        server.rotateTicketKey()
        #expect(try isResumed() == true, "a new ticket came with the old key's")
        server.rotateTicketKey()
        server.rotateTicketKey()
        #expect(try isResumed() == false, "no key is left that the ticket was made with")
        let again = try Certificates.client { $0.resumesSessions = false }
        let client = try stage.connect(again)
        try stage.run(until: { client.isOpen })
        #expect(client.connection.tls?.isResumed == false)
    }

    @Test(arguments: Engine.allCases)
    func `certificates are replaced while connections go on`(engine: Engine) throws {
        let server = try Certificates.server()
        let stage = try TLSStage(engine, server)
        stage.onConnection = { $0.echoes = true }
        let old = try stage.connect()
        try stage.run(until: { old.isOpen })
        #expect(throws: TLS.ConfigurationError.self) {
            try server.replace(identities: [Certificates.identity("chain", key: "other")])
        }
        try server.replace(identities: [Certificates.identity("other")])
        let new = Served(
            try stage.loop.connect(
                to: stage.listener.localAddress, tls: Certificates.client(), serverName: "other.test"))
        old.connection.write("still")
        try stage.run(until: { new.isOpen && old.text == "still" })
        #expect(new.connection.tls?.peerCertificates.first?.subject == "CN=other.test")
    }

    // MARK: Time-outs and limits

    @Test(arguments: Engine.allCases)
    func `a handshake has its time`(engine: Engine) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.handshakeTimeout = .milliseconds(50) })
        var reason: CloseReason?
        let silent = try stage.loop.connect(to: stage.listener.localAddress)
        silent.onClose = { reason = $1 }
        try stage.run(until: { reason != nil && stage.served.first?.isClosed == true })
        #expect(stage.served[0].reason == .timedOut(.connect))
        #expect(stage.failures.map(\.cause) == [.closed(.timedOut(.connect))])
    }

    @Test(arguments: Engine.allCases)
    func `the oldest handshake gives way when there are too many, and a client that goes on gets in`(
        engine: Engine
    ) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.maxHandshakes = 10 })
        for _ in 0..<50 { _ = try stage.loop.connect(to: stage.listener.localAddress) }
        try stage.run(until: { stage.failures.count == 40 })
        #expect(stage.failures.allSatisfy { $0.cause == .tooMany })
        #expect(stage.served.prefix(40).allSatisfy { $0.reason == .shed })
        #expect(stage.listener.handshakeCount == 10)
        _ = try stage.connect()
        try stage.run(until: { stage.served.last?.isOpen == true })
        #expect(stage.listener.handshakeCount == 9)
    }

    @Test(arguments: Engine.allCases)
    func `a drain waits for handshakes as for connections`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let client = try stage.connect()
        client.onOpen = { connection in
            connection.write("through")
            connection.end()
        }
        var report: DrainReport?
        stage.onConnection = { [unowned stage] _ in stage.listener.drain(within: .seconds(30)) { report = $0 } }
        try stage.run(until: { report != nil })
        #expect(stage.served[0].text == "through")
        #expect(report?.finished == 1)
    }

    @Test(arguments: Engine.allCases)
    func `are measured as callbacks are`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        var kinds: Set<EventLoop.CallbackKind> = []
        stage.loop.onSlowCallback(longerThan: .nanoseconds(1)) { kinds.insert($0.kind) }
        let client = try stage.connect()
        try stage.run(until: { client.isOpen })
        #expect(kinds.isSuperset(of: [.connection, .handshake, .open]))
    }

    // MARK: Happy Eyeballs

    @Test(arguments: Engine.allCases)
    func `TLS begins on the address that answers`(engine: Engine) throws {
        // Only on IPv4: where a host's first address is IPv6, it refuses.
        let stage = try TLSStage(engine)
        stage.onConnection = { $0.echoes = true }
        let client = Served(
            try stage.loop.connect(host: "localhost", port: Int(stage.port), tls: Certificates.client()))
        client.connection.write("early")
        try stage.run(until: { client.text == "early" || client.isClosed })
        #expect(client.text == "early")
        #expect(stage.served[0].connection.tls?.serverName == "localhost")
        client.connection.end()
        try stage.run(until: { client.isClosed })
        #expect(stage.served[0].reason == .peerClosed)
    }
}
