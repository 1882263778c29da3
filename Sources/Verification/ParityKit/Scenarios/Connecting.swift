internal import CallbackModel

extension Scenario {
    private static let refusal = "connect(2): ECONNREFUSED, nobody listens"

    static let connecting: [Scenario] = [
        Scenario(
            "connection_fail", source: refusal, clauses: [2], handler: .clients([Script()]),
            peers: [Peer(reception: .refuses)],
            expected: [.unopened(.failed("ECONNREFUSED"))]),
        Scenario(
            "connection_fail_doesnt_auto_close", source: refusal + "; contract, clause 8: onClose once, then nothing",
            clauses: [2, 8],
            handler: .clients([
                Script(
                    .nothing,
                    [
                        .on(.open, .note("opened")), .on(.end, .note("ended")),
                        .on(.close, .write("x"), .end, .close, .reset, .note("closed")),
                    ])
            ]),
            peers: [Peer(reception: .refuses)], expected: [.unopened(.failed("ECONNREFUSED"))], notes: ["closed"]),
        Scenario(
            "tcp_connect_error_after_write", source: refusal, clauses: [5, 8],
            handler: .clients([Script(.nothing, [.on(.start, .writeCompleting("early"))])]),
            peers: [Peer(reception: .refuses)],
            expected: [Expectation.unopened(.failed("ECONNREFUSED")).with { $0.failures = 1 }]),
        Scenario(
            "tcp_write_after_connect", source: "contract: what is written before onOpen is queued and then sent",
            clauses: [2, 5],
            handler: .clients([
                Script(
                    .nothing,
                    [.on(.start, .writeCompleting("early ")), .on(.open, .writeCompleting("late")), .on(.end, .end)])
            ]),
            peers: [Peer(.read(10), .halfClose, .readToEnd)],
            expected: [
                Expectation(ended: true, closing: .peerClosed, peer: .exactly("early late"), .end)
                    .with { $0.completions = 2 }
            ]),
        Scenario(
            "tcp_write_and_end_before_connect",
            source: "contract: what is written before onOpen is queued and then sent",
            clauses: [5],
            handler: .clients([Script(.nothing, [.on(.start, .write(.pattern(30, count: 200_000)), .end)])]),
            peers: [Peer(.echoToEnd)],
            expected: [
                Expectation(
                    received: .exactly(.pattern(30, count: 200_000)), ended: true, closing: .localClose,
                    peer: .exactly(.pattern(30, count: 200_000)), .end
                ).with { $0.isDrained = true }
            ]),
        Scenario(
            "tcp_close_while_connecting", source: "libuv documentation, uv_close: pending requests end with it",
            clauses: [8, 9], handler: .clients([Script(.nothing, [.on(.start, .writeCompleting("never"), .close)])]),
            peers: [Peer(reception: .isSilent)],
            expected: [Expectation.unopened(.localClose).with { $0.failures = nil }]
        ).with {
            $0.options = .connections { $0.timeouts.close = .milliseconds(50) }; $0.expected[0].closing = nil
        },
        Scenario(
            "tcp_reset_while_connecting", source: "libuv documentation, uv_tcp_close_reset", clauses: [8, 9],
            handler: .clients([Script(.nothing, [.on(.start, .writeCompleting("never"), .reset)])]),
            peers: [Peer(reception: .isSilent)],
            expected: [Expectation.unopened(.localReset).with { $0.failures = 1 }]),
        Scenario(
            "tcp_connect_timeout", source: "listen(2): a full backlog drops SYN; contract: the connect time-out",
            clauses: [2], options: .connections { $0.timeouts.connect = .milliseconds(30) },
            handler: .clients([Script()]), peers: [Peer(reception: .isSilent)],
            expected: [
                Expectation.unopened(.timedOut(.connect)).with { $0.timeouts = [.connect] }
            ]),
        Scenario(
            "tcp_local_connect_timeout", source: refusal + ", at once, whatever the time-out", clauses: [2],
            options: .connections { $0.timeouts.connect = .seconds(5) },
            handler: .clients([Script()]), peers: [Peer(reception: .refuses)],
            expected: [.unopened(.failed("ECONNREFUSED"))]),
        Scenario(
            "connect_tcp6", source: "RFC 9293, 3.5", clauses: [2], on: .ipv6,
            handler: .clients([Script(.nothing, [.on(.open, .write("hello"), .end)])]), peers: [Peer(.echoToEnd)],
            expected: [
                Expectation(
                    received: .exactly("hello"), ended: true, closing: .localClose, peer: .exactly("hello"), .end)
            ]),
        Scenario(
            "connect_pipe", source: "unix(7)", clauses: [2], on: .unix,
            handler: .clients([Script(.nothing, [.on(.open, .write("hello"), .end)])]), peers: [Peer(.echoToEnd)],
            expected: [
                Expectation(
                    received: .exactly("hello"), ended: true, closing: .localClose, peer: .exactly("hello"), .end)
            ]),
        Scenario(
            "client_is_reset", source: "tcp(7): ECONNRESET", clauses: [11],
            handler: .clients([Script(.nothing, [.on(.open, .write("hello"))])]),
            peers: [Peer(.read(5), .send("bye"), .wait(.received(3)), .reset)],
            expected: [
                Expectation(received: .exactly("bye"), closing: .peerReset, peer: .exactly("hello"), .unseen)
            ]),
        Scenario(
            "pipe_connect_bad_name", source: "unix(7), connect(2): ENOENT", clauses: [2], on: .unix,
            handler: .program(connectToNowhere), notes: ["closed: ENOENT"]),
        Scenario(
            "pipe_connect_to_file", source: "connect(2): ECONNREFUSED for a file that is no socket", clauses: [2],
            on: .unix, handler: .program(connectToFile), notes: ["closed: ECONNREFUSED"]),
        Scenario(
            "pipe_connect_multiple", source: "unix(7): each client has its connection", clauses: [12], on: .unix,
            handler: .script(Script(.echo)), peers: (0..<6).map { .echoed(.text("client \($0)")) },
            expected: (0..<6).map { .echo(of: .text("client \($0)")) }),
        Scenario(
            "connect_to_a_host", source: "RFC 8305; getaddrinfo(3): a numeric host needs no resolver", clauses: [2],
            handler: .program(connectToHost), notes: ["opened", "closed: localClose"]),
    ]

    private static func connectToNowhere(_ stage: Stage) throws(IOError) {
        try connect(stage, to: .unix(path: stage.freshPath()))
    }

    private static func connectToFile(_ stage: Stage) throws(IOError) {
        try connect(stage, to: .unix(path: "/dev/null"))
    }

    private static func connect(_ stage: Stage, to address: SocketAddress) throws(IOError) {
        let connection = try stage.loop.connect(to: address)
        connection.onOpen = { _ in stage.callback("onOpen") { stage.note("opened") } }
        connection.onClose = { _, reason in
            stage.callback("onClose") {
                if case .failed(let error) = reason {
                    stage.note("closed: \(error.name)")
                } else {
                    stage.note("closed: \(reason)")
                }
            }
        }
    }

    private static func connectToHost(_ stage: Stage) throws(IOError) {
        let listener = try stage.loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            connection.onEnd = { $0.close() }
        }
        let connection = try stage.loop.connect(host: "127.0.0.1", port: listener.localAddress.port ?? 0)
        connection.onOpen = { connection in
            stage.note("opened")
            connection.end()
        }
        connection.onClose = { _, reason in
            stage.note("closed: \(reason)")
            // Not before: who still waits to be accepted would be reset.
            listener.close()
        }
    }
}

extension Scenario.Expectation {
    /// A client whose peer was never reached.
    static func unopened(_ closing: Transcript.Closing) -> Self {
        Self(closing: closing, .unseen).with { $0.isOpened = false }
    }
}
