internal import CallbackModel

extension Scenario {
    private static let linger = "socket(7), SO_LINGER: a close with zero sends RST"

    static let resetting: [Scenario] = [
        Scenario(
            "tcp_rst", source: linger + "; tcp(7): ECONNRESET", clauses: [2, 11],
            handler: .script(Script(.echo)),
            peers: [Peer(.send("QS"), .read(2), .reset)],
            expected: [
                Expectation(received: .exactly("QS"), closing: .peerReset, peer: .exactly("QS"), .unseen)
            ]),
        Scenario(
            "reset_behind_data", source: "tcp(7): what came before a reset is still read", clauses: [11],
            handler: .script(
                Script(.nothing, [.on(.start, .pause), .on(.received(1), .note("data before the reset"))])),
            peers: [Peer(.send("last words"), .wait(.opened), .reset)],
            expected: [
                Expectation(received: .undetermined, closing: .peerReset, .unseen)
            ], notes: nil),
        Scenario(
            "reset_of_a_paused_one", source: "contract, clause 11: noticed within 2 seconds", clauses: [11],
            handler: .script(Script(.nothing, [.on(.received(2), .pause)])),
            peers: [Peer(.send("hi"), .wait(.received(2)), .reset)],
            expected: [Expectation(received: .exactly("hi"), closing: .peerReset, .unseen)]),
        Scenario(
            "reset_while_writing", source: "send(2): EPIPE or ECONNRESET, never a signal", clauses: [5, 11, 15],
            handler: .script(Script(.nothing, [.on(.received(2), .writeCompleting(.pattern(11, count: 20_000_000)))])),
            // Not in the middle of the write, which would say so itself.
            peers: [Peer(.send("go"), .wait(.received(2)), .read(10_000), .reset, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("go"), closing: .peerReset, peer: .prefix(of: .pattern(11, count: 20_000_000)),
                    .unseen
                ).with { $0.failures = 1 }
            ]),
        Scenario(
            "write_to_one_that_is_gone", source: "send(2), EPIPE; signal(7): SIGPIPE is ignored", clauses: [15],
            on: .unix,
            handler: .script(Script(.nothing, [.on(.end, .write("x"), .write("y"))])),
            peers: [Peer(.send("go"), .wait(.received(2)), .close)],
            expected: [
                Expectation(received: .exactly("go"), ended: true, closing: .peerReset, .unseen)
            ]),
        Scenario(
            "peer_takes_nothing", source: "unix(7), shutdown(2): a send to a peer that has shut down reading is EPIPE",
            clauses: [5, 15], on: .unix,
            handler: .script(
                Script(
                    .nothing,
                    [.on(.received(4), .writeCompleting("first"), .writeCompleting("second"))])),
            peers: [Peer(.stopReading, .send("stop"), .wait(.closed))],
            expected: [
                Expectation(received: .exactly("stop"), closing: .peerReset, .unseen).with { $0.failures = 2 }
            ]),
        Scenario(
            "local_reset", source: linger, clauses: [8],
            handler: .script(
                Script(.nothing, [.on(.received(1), .reset, .write("never"), .close, .reset, .end)])),
            peers: [Peer(.send("Q"), .readToEnd)],
            expected: [Expectation(received: .exactly("Q"), closing: .localReset, .reset)]),
        Scenario(
            "local_reset_drops_the_queue", source: linger, clauses: [5, 8],
            handler: .script(
                Script(.nothing, [.on(.received(1), .writeCompleting(.pattern(12, count: 20_000_000)), .reset)])),
            // A peer that reads meanwhile may have taken it all.
            peers: [Peer(.send("Q"), .wait(.closed), .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("Q"), closing: .localReset, peer: .prefix(of: .pattern(12, count: 20_000_000)),
                    .reset
                ).with { $0.failures = 1 }
            ]),
        Scenario(
            "local_reset_unix", source: "unix(7): no RST; unread data makes a close ECONNRESET", clauses: [8],
            on: .unix, handler: .script(Script(.nothing, [.on(.received(1), .reset)])),
            peers: [Peer(.send("Q"), .readToEnd)],
            expected: [Expectation(received: .exactly("Q"), closing: .localReset, .end)]),
        Scenario(
            "reset_of_another", source: "contract, clause 9: any call from any callback of any object",
            clauses: [9, 10],
            handler: .scripts([
                Script(.nothing, [.on(.received(3), .other(1, [.reset]), .write("done"))]), Script(.echo),
            ]),
            peers: [
                Peer(.waitFor(1, .received(2)), .send("end"), .read(4), .halfClose, .readToEnd),
                Peer(.send("hi"), .read(2), .wait(.closed), .readToEnd),
            ],
            expected: [
                Expectation(
                    received: .exactly("end"), ended: true, closing: .peerClosed, peer: .exactly("done"), .end),
                Expectation(received: .exactly("hi"), closing: .localReset, peer: .exactly("hi"), .reset),
            ]),
    ]
}
