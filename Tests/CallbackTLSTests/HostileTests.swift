import COpenSSL
import CallbackServer
import CallbackTLS
import ServerTestSupport
import TestSupport
import Testing

/// Peers that break the rules: a named error for them, and nothing for the others.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Hostile peers` {
    @Test(arguments: Engine.allCases)
    func `that do not speak TLS are told so, with their cause`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let cases: [(String, says: String)] = [
            ("GET / HTTP/1.1\r\n\r\n", "http request"), ("CONNECT a:443 HTTP/1.1\r\n\r\n", "https proxy request"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "wrong version number"),
            (String(repeating: "\u{7f}", count: 5_000), "wrong version number"),
            ("\u{16}\u{03}\u{01}\u{7f}\u{7f}", "packet length too long"),
        ]
        for (number, (text, says)) in cases.enumerated() {
            var isClosed = false
            let client = try stage.loop.connect(to: stage.listener.localAddress)
            client.write(text)
            client.onClose = { _, _ in isClosed = true }
            try stage.run(until: { isClosed && stage.failures.count == number + 1 })
            #expect(stage.failures[number].cause == .protocolError(says))
            #expect(stage.served[number].events == ["close"])
        }
        let honest = try stage.connect()
        try stage.run(until: { honest.isOpen })
    }

    @Test(arguments: Engine.allCases)
    func `that end in the middle of the handshake have closed`(engine: Engine) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.maximumVersion = .tls12 })
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        // Its second flight is close_notify, in clear still.
        wire.change = { [unowned wire] isFromClient, bytes in
            isFromClient && wire.fromClient > bytes.count ? [0x15, 3, 3, 0, 2, 1, 0] : bytes
        }
        _ = try stage.connect(to: wire.listener.localAddress)
        try stage.run(until: { stage.failures.count == 1 })
        #expect(stage.failures[0].cause == .peerClosed)
    }

    /// All connections of a loop share one way into OpenSSL. What one leaves there must not reach another.
    @Test(arguments: Engine.allCases)
    func `leave nothing behind for the next connection`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        for number in 1...20 {
            let bad = try stage.loop.connect(to: stage.listener.localAddress)
            // A record that is refused, and behind it fatal alerts: more than OpenSSL reads ahead.
            let alerts = (0..<8_000).flatMap { _ in [0x15, 3, 3, 0, 2, 2, 80] as [UInt8] }
            bad.write([0x16, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff] + alerts)
            let honest = try stage.connect()
            honest.onOpen = { $0.write("honest") }
            try stage.run(until: {
                stage.failures.count == number && stage.served.count { $0.text == "honest" } == number
            })
            honest.connection.close()
        }
    }

    /// The records behind the one that is refused are in the same read.
    @Test(arguments: Engine.allCases)
    func `whose record was changed on its way are refused, behind what came before it`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        let client = try stage.connect(to: wire.listener.localAddress)
        client.onOpen = { $0.write("good") }
        try stage.run(until: { stage.served.first?.text == "good" })
        wire.change = { isFromClient, bytes in
            guard isFromClient else { return bytes }
            var bytes = bytes
            bytes[bytes.count - 1] ^= 1
            return bytes
        }
        client.connection.write("bad")
        try stage.run(until: { stage.served[0].isClosed })
        #expect(stage.served[0].text == "good")
        guard case .failed(let error) = stage.served[0].reason else {
            Issue.record("\(stage.served[0].reason as Any)")
            return
        }
        #expect(error.call == "SSL_read" && error.name == "EPROTO")
        #expect(error.detail?.contains("bad record mac") == true)
    }

    /// The handshake is cut after each number of bytes, by FIN and by RST.
    @Test(arguments: Engine.allCases, [true, false])
    func `abandon the handshake anywhere`(engine: Engine, isReset: Bool) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.handshakeTimeout = .seconds(20) })
        var whole = 0
        do {
            let wire = try Wire(stage.loop, to: stage.listener.localAddress)
            let client = try stage.connect(to: wire.listener.localAddress)
            try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
            whole = wire.fromClient
            client.connection.reset()
        }
        var cuts = 0
        for count in stride(from: 0, to: whole, by: 23) {
            let wire = try Wire(stage.loop, to: stage.listener.localAddress)
            var left = count
            wire.change = { [unowned wire] isFromClient, bytes in
                guard isFromClient else { return bytes }
                let part = Array(bytes.prefix(left))
                left -= part.count
                if part.count < bytes.count || left == 0 {
                    wire.server?.schedule(after: .zero) { server, _ in isReset ? server.reset() : server.end() }
                }
                return part
            }
            let client = try stage.connect(to: wire.listener.localAddress)
            cuts += 1
            try stage.run(until: { stage.failures.count == cuts })
            client.connection.reset()
            wire.listener.close()
        }
        try stage.run(until: { stage.served.allSatisfy(\.isClosed) })
        #expect(stage.served.dropFirst().allSatisfy { !$0.isOpen })
        #expect(stage.listener.handshakeCount == 0)
        #expect(Set(stage.failures.map(\.cause)).isSubset(of: [.peerClosed, .closed(.peerReset)]))
    }

    @Test(arguments: Engine.allCases)
    func `that drip their handshake have its time, and no more`(engine: Engine) throws {
        let stage = try TLSStage(engine, Certificates.server { $0.handshakeTimeout = .milliseconds(300) })
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        var waiting: [UInt8] = []
        wire.change = { isFromClient, bytes in
            if isFromClient { waiting += bytes }
            return isFromClient ? [] : bytes
        }
        let drip = stage.loop.schedule(after: .zero, repeating: .milliseconds(5)) { _ in
            if !waiting.isEmpty { wire.server?.write([waiting.removeFirst()]) }
        }
        _ = try stage.connect(to: wire.listener.localAddress)
        try stage.run(until: { stage.served.first?.isClosed == true })
        drip.cancel()
        #expect(stage.served[0].reason == .timedOut(.connect))
    }

    /// Bytes of a record that never becomes whole are no silence, and none of them reaches the user.
    @Test(arguments: Engine.allCases)
    func `that drip a record are not idle`(engine: Engine) throws {
        var listening = Listener.Options()
        listening.connection.timeouts.idle = .milliseconds(200)
        let stage = try TLSStage(engine, listening: listening)
        let wire = try Wire(stage.loop, to: stage.listener.localAddress)
        let client = try stage.connect(to: wire.listener.localAddress)
        try stage.run(until: { client.isOpen && stage.served.first?.isOpen == true })
        var waiting: [UInt8] = []
        wire.change = { isFromClient, bytes in
            if isFromClient { waiting += bytes }
            return isFromClient ? [] : bytes
        }
        client.connection.write([UInt8](repeating: 1, count: 100))
        var dripped = 0
        let drip = stage.loop.schedule(after: .zero, repeating: .milliseconds(20)) { _ in
            guard dripped < 40, !waiting.isEmpty else { return }
            wire.server?.write([waiting.removeFirst()])
            dripped += 1
        }
        try stage.run(until: { dripped == 40 })
        #expect(!stage.served[0].isClosed, "800 ms have passed")
        try stage.run(until: { stage.served[0].isClosed })
        drip.cancel()
        #expect(stage.served[0].reason == .timedOut(.idle))
        #expect(stage.served[0].received.isEmpty)
    }

    /// OpenSSL has one queue of errors for each thread. What other code leaves there is not the connection's failure.
    @Test(arguments: Engine.allCases)
    func `errors of other code that uses OpenSSL fail no connection`(engine: Engine) throws {
        let stage = try TLSStage(engine)
        func leaveError() {
            // A number that is none: an error in the queue.
            let bio = BIO_new_mem_buf("no certificate", -1)
            #expect(PEM_read_bio_X509(bio, nil, nil, nil) == nil)
            BIO_free(bio)
            #expect(ERR_peek_error() != 0)
        }
        stage.onConnection = { served in
            leaveError()
            served.onOpen = { _ in leaveError() }
            served.onData = { connection, _ in
                leaveError()
                connection.write(served.received)
                leaveError()
            }
        }
        let client = try stage.connect()
        client.onOpen = { connection in
            leaveError()
            connection.write("hello")
            leaveError()
        }
        client.onData = { connection, _ in
            leaveError()
            connection.end()
        }
        try stage.run(until: { client.isClosed && stage.served.first?.isClosed == true })
        #expect(client.text == "hello")
        #expect(client.reason == .localClose && stage.served[0].reason == .peerClosed)
        ERR_clear_error()
    }

    /// Memory is bounded by the number of handshakes, and honest clients get in.
    @Test(arguments: Engine.allCases)
    func `that hold many handshakes open keep nobody out`(engine: Engine) throws {
        let count = 500
        let stage = try TLSStage(engine, Certificates.server { $0.maxHandshakes = 40 })
        stage.onConnection = { $0.echoes = true }
        var begun = 0
        let more = stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
            for _ in 0..<2 where begun < count {
                begun += 1
                let half = try? stage.loop.connect(to: stage.listener.localAddress)
                half?.write([0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3])
            }
            if begun == count { timer.cancel() }
        }
        var honest: [Served] = []
        func connect() {
            guard let client = try? stage.connect() else { return }
            client.onOpen = { $0.write("honest") }
            honest.append(client)
        }
        // On a machine that is busy one may be the oldest itself; it tries again, as clients do.
        let retry = stage.loop.schedule(after: .zero, repeating: .milliseconds(10)) { _ in
            if honest.count < 200, honest.count(where: { $0.text == "honest" || !$0.isClosed }) < 10 { connect() }
        }
        try stage.run(until: {
            begun == count && stage.failures.count >= count - 40 && honest.count { $0.text == "honest" } == 10
        })
        more.cancel()
        retry.cancel()
        #expect(stage.listener.handshakeCount <= 40)
        #expect(stage.failures.allSatisfy { $0.cause == .tooMany })
    }
}
