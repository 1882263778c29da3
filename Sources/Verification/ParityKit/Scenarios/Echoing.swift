internal import CallbackModel

extension Scenario.Expectation {
    /// An echo of `payload` to a peer that finished first.
    static func echo(of payload: Payload) -> Self {
        Self(
            received: .exactly(payload), ended: true, closing: .peerClosed, peer: .exactly(payload), .end
        ).with { $0.isDrained = nil }
    }
}

extension Peer {
    /// Sends `payload`, receives as much at the same time, and finishes first.
    static func echoed(_ payload: Payload) -> Peer {
        Peer(.exchange(payload, receiving: payload.count), .halfClose, .readToEnd)
    }
}

extension Scenario {
    private static let stream = "RFC 9293, 3.4: a reliable, ordered stream of bytes"

    static let echoing: [Scenario] =
        pingPong
        + [
            Scenario(
                "echo_drip", source: stream + "; how it is cut means nothing", clauses: [3, 5],
                handler: .script(Script(.echo)),
                peers: [Peer(.drip("one byte at a time", by: 1), .read(18), .halfClose, .readToEnd)],
                expected: [.echo(of: "one byte at a time")]),
            Scenario(
                "echo_large", source: stream, clauses: [3, 5, 6], handler: .script(Script(.echo)),
                peers: [.echoed(.pattern(1, count: 3_000_000))],
                expected: [.echo(of: .pattern(1, count: 3_000_000))]),
            Scenario(
                "echo_small_buffers", source: "socket(7), SO_SNDBUF: a short write is no failure", clauses: [5, 6],
                options: .connections { $0.sendBufferSize = 4_096 },
                handler: .script(Script(.echo)),
                peers: [
                    Peer(
                        steps: Peer.echoed(.pattern(2, count: 400_000)).steps, receiveBuffer: 16_384)
                ],
                expected: [.echo(of: .pattern(2, count: 400_000))]),
            Scenario(
                "echo_unix_large", source: "unix(7): SOCK_STREAM", clauses: [3, 5, 6], on: .unix,
                handler: .script(Script(.echo)), peers: [.echoed(.pattern(3, count: 1_000_000))],
                expected: [.echo(of: .pattern(3, count: 1_000_000))]),
            Scenario(
                "echo_many", source: stream + ", each its own", clauses: [5, 14], handler: .script(Script(.echo)),
                peers: (0..<12).map { .echoed(.pattern(UInt64($0), count: 50_000)) },
                expected: (0..<12).map { .echo(of: .pattern(UInt64($0), count: 50_000)) }),
            Scenario(
                "echo_one_reads_slowly", source: "poll(2): a descriptor that is not ready stops no other",
                clauses: [6, 14], handler: .script(Script(.echo)),
                peers: [
                    // It reads nothing before the other is through.
                    Peer(
                        .wait(.opened), .waitFor(1, .closed),
                        .exchange(.pattern(4, count: 500_000), receiving: 500_000),
                        .halfClose, .readToEnd, receiveBuffer: 4_096),
                    .echoed(.pattern(5, count: 20_000)),
                ],
                expected: [.echo(of: .pattern(4, count: 500_000)), .echo(of: .pattern(5, count: 20_000))]),
            Scenario(
                "tcp_oob", source: "tcp(7), SO_OOBINLINE: urgent data stays out of the stream unless asked for",
                clauses: [3], handler: .script(Script(.echo)),
                peers: [
                    Peer(
                        .send("hello"), .wait(.received(5)), .sendUrgent(0x21), .send("world"), .read(10), .halfClose,
                        .readToEnd)
                ],
                expected: [.echo(of: "helloworld")]),
            writeALot,
        ]

    /// libuv's test: three writes, 123,174,912 bytes together, through an echo server and back.
    private static let writeALot = Scenario(
        "tcp_writealot", source: "libuv documentation, uv_write: all of it, in order", clauses: [5, 6],
        handler: .clients([
            Script(
                .nothing,
                [
                    .on(
                        .open, .writeCompleting(.pattern(1, count: 41_058_304)),
                        .writeCompleting(.pattern(2, count: 41_058_304)),
                        .writeCompleting(.pattern(3, count: 41_058_304)), .end)
                ])
        ]),
        peers: [Peer(.echoToEnd)],
        expected: [
            Expectation(
                received: .exactly(alot), ended: true, closing: .localClose, peer: .exactly(alot), .end
            ).with {
                $0.completions = 3
                $0.isDrained = true
            }
        ]
    ).with { $0.timeLimit = .seconds(60) }

    private static let alot =
        Payload.pattern(1, count: 41_058_304) + .pattern(2, count: 41_058_304) + .pattern(3, count: 41_058_304)

    /// A copy with changes.
    func with(_ change: (inout Scenario) -> Void) -> Scenario {
        var copy = self
        change(&copy)
        return copy
    }

    private static var pingPong: [Scenario] {
        let names: [(Endpoint, String)] = [(.ipv4, "tcp"), (.ipv6, "tcp6"), (.unix, "pipe")]
        return names.flatMap { endpoint, name in [pingPong(endpoint, name), vectored(endpoint, name)] }
    }

    private static func pingPong(_ endpoint: Endpoint, _ name: String) -> Scenario {
        Scenario(
            "\(name)_ping_pong", source: stream, clauses: [1, 2, 3, 5], on: endpoint, handler: .script(Script(.echo)),
            peers: [
                Peer(
                    steps: (0..<20).flatMap { _ in [Peer.Step.send("PING\n"), .read(5)] } + [.halfClose, .readToEnd])
            ],
            expected: [.echo(of: .text(String(repeating: "PING\n", count: 20)))])
    }

    /// The client under test writes in pieces: writev(2), or what stands for it.
    private static func vectored(_ endpoint: Endpoint, _ name: String) -> Scenario {
        let ping = Script.Action.writePieces(["PI", "NG", "", "\n"])
        return Scenario(
            "\(name)_ping_pong_vec", source: "writev(2): the pieces of one call follow each other", clauses: [5, 7],
            on: endpoint,
            handler: .clients([
                Script(.nothing, [.on(.open, ping), .on(.received(5), ping), .on(.received(10), .end)])
            ]),
            peers: [Peer(.echoToEnd)],
            expected: [
                Expectation(
                    received: .exactly("PING\nPING\n"), ended: true, closing: .localClose,
                    peer: .exactly("PING\nPING\n"), .end)
            ])
    }
}
