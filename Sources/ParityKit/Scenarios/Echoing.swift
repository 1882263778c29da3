extension Scenario {
    static let echoing: [Scenario] = [
        Scenario(
            "tcp_ping_pong", source: "RFC 9293, 3.4: a reliable, ordered stream", clauses: [1, 2, 3, 5],
            handler: .script(Script(.echo)),
            peers: [Peer(.send("PING\n"), .read(5), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("PING\n"), ended: true, closing: .peerClosed, peer: .exactly("PING\n"), .end)
            ])
    ]
}
