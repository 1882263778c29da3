internal import CallbackModel

extension Scenario {
    static let ending: [Scenario] =
        finishing + closing + [
            Scenario(
                "shutdown_eof", source: "shutdown(2), SHUT_WR: the other direction goes on", clauses: [2, 4],
                handler: .clients([
                    Script(.nothing, [.on(.open, .write("Q")), .on(.received(1), .end)])
                ]),
                peers: [Peer(.echoToEnd)],
                expected: [
                    Expectation(received: .exactly("Q"), ended: true, closing: .localClose, peer: .exactly("Q"), .end)
                ]),
            Scenario(
                "shutdown_simultaneous", source: "RFC 9293, 3.6: both sides may close at once", clauses: [2, 4],
                handler: .script(Script(.nothing, [.on(.received(4), .write("bye"), .end)])),
                peers: [Peer(.send("ping"), .wait(.received(4)), .halfClose, .readToEnd)],
                expected: [
                    Expectation(
                        received: .exactly("ping"), ended: true, closing: .localClose, peer: .exactly("bye"), .end)
                ]),
            Scenario(
                "not_writable_after_shutdown", source: "libuv documentation, uv_is_writable: false after uv_shutdown",
                clauses: [8],
                handler: .script(Script(.nothing, [.on(.received(1), .write("a"), .end, .write("b"), .note("ended"))])),
                peers: [Peer(.send("Q"), .readToEnd)],
                expected: [
                    Expectation(received: .exactly("Q"), ended: true, closing: .localClose, peer: .exactly("a"), .end)
                ], notes: ["ended"]),
            Scenario(
                "tcp_shutdown_after_write", source: "libuv documentation, uv_shutdown: waits for pending writes",
                clauses: [4, 5],
                options: .smallSendBuffer,
                handler: .script(
                    Script(.nothing, [.on(.start, .writeCompleting(.pattern(7, count: 900_000)), .end)])),
                peers: [Peer(.wait(.opened), .readToEnd, receiveBuffer: 4_096)],
                expected: [
                    Expectation(ended: true, closing: .localClose, peer: .exactly(.pattern(7, count: 900_000)), .end)
                        .with {
                            $0.completions = 1
                            $0.isDrained = true
                        }
                ]),
        ]

    private static let finishing: [Scenario] = [
        Scenario(
            "finish_reads_and_drops", source: "RFC 9112, 9.6: read what still comes, until the peer ends",
            clauses: [2, 3, 4, 8],
            handler: .script(
                Script(.nothing, [.on(.received(1), .write("bye"), .finish(milliseconds: 600_000), .write("more"))])),
            peers: [Peer(.send("Q"), .wait(.received(1)), .send("more"), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("Q"), ended: true, closing: .localClose, peer: .exactly("bye"), .end)
            ]),
        Scenario(
            "end_of_input_only", source: "recv(2): 0 is the end", clauses: [2, 4], handler: .script(Script()),
            peers: [Peer(.halfClose, .readToEnd)],
            expected: [Expectation(ended: true, closing: .peerClosed, .end)]),
        Scenario(
            "end_of_input_without_a_word", source: "recv(2): 0 is the end", clauses: [2, 4], on: .unix,
            handler: .script(Script()), peers: [Peer(.close)],
            expected: [Expectation(ended: true, closing: .peerClosed, .unseen)]),
        Scenario(
            "half_open", source: "RFC 9293, 3.6: who has received FIN may go on sending", clauses: [4],
            options: .connections { $0.allowsHalfOpen = true },
            handler: .script(
                Script(
                    .nothing, [.on(.end, .write("after "), .startTimer(0, milliseconds: 5, [.write("FIN"), .end]))])),
            peers: [Peer(.send("request"), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("request"), ended: true, closing: .peerClosed, peer: .exactly("after FIN"), .end)
            ]),
        Scenario(
            "answer_to_the_end", source: "RFC 9293, 3.6: who has received FIN may go on sending", clauses: [4, 5],
            options: .smallSendBuffer,
            handler: .script(Script(.nothing, [.on(.end, .write(.pattern(8, count: 300_000)))])),
            peers: [Peer(.send("request"), .halfClose, .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("request"), ended: true, closing: .peerClosed,
                    peer: .exactly(.pattern(8, count: 300_000)), .end
                ).with { $0.isDrained = nil }
            ]),
        Scenario(
            "end_behind_unread_data", source: "recv(2): the end comes behind all data", clauses: [2, 4, 11],
            handler: .script(
                Script(.nothing, [.on(.start, .pause, .startTimer(0, milliseconds: 5, [.resume]))])),
            peers: [Peer(.send(.pattern(9, count: 20_000)), .halfClose, .readToEnd)],
            expected: [
                Expectation(received: .exactly(.pattern(9, count: 20_000)), ended: true, closing: .peerClosed, .end)
            ]),
        Scenario(
            "end_twice", source: "contract, clause 8: ending twice is ending once", clauses: [8],
            handler: .script(Script(.nothing, [.on(.received(1), .end, .end, .close, .end)])),
            peers: [Peer(.send("Q"), .readToEnd)],
            expected: [Expectation(received: .exactly("Q"), closing: .localClose, .end)]),
    ]

    private static let closing: [Scenario] = [
        Scenario(
            "close_flushes", source: "contract: close() sends what is queued, then closes", clauses: [5, 8],
            options: .smallSendBuffer,
            handler: .script(Script(.nothing, [.on(.received(2), .write(.pattern(10, count: 700_000)), .close)])),
            peers: [Peer(.send("go"), .wait(.received(2)), .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("go"), closing: .localClose, peer: .exactly(.pattern(10, count: 700_000)), .end)
            ]),
        Scenario(
            "close_in_the_first_callback", source: "contract, clause 9: any call from any callback", clauses: [9],
            handler: .script(Script(.nothing, [.on(.start, .write("bye"), .close, .write("never"), .close)])),
            peers: [Peer(.readToEnd)],
            expected: [Expectation(closing: .localClose, peer: .exactly("bye"), .end)]),
        Scenario(
            "close_in_every_callback", source: "contract, clause 9: any call from any callback", clauses: [2, 8, 9],
            options: .connections { $0.allowsHalfOpen = true },
            handler: .script(
                Script(.nothing, [.on(.end, .close), .on(.close, .close, .reset, .end, .write("x"), .resume)])),
            peers: [Peer(.send("Q"), .halfClose, .readToEnd)],
            expected: [Expectation(received: .exactly("Q"), ended: true, closing: .peerClosed, .end)]),
        Scenario(
            "close_stops_delivery", source: "contract, clause 3: no data after close()", clauses: [3],
            handler: .script(Script(.nothing, [.on(.received(1), .writeCompleting("ok"), .close)])),
            peers: [Peer(.send("Q"), .readToEnd)],
            expected: [
                Expectation(received: .exactly("Q"), closing: .localClose, peer: .exactly("ok"), .end)
                    .with { $0.completions = 1 }
            ]),
        Scenario(
            "close_of_another", source: "contract, clause 9: any call from any callback of any object", clauses: [9],
            handler: .scripts([
                Script(.nothing, [.on(.received(3), .other(1, [.write("bye"), .close]), .write("done"))]),
                Script(.echo),
            ]),
            peers: [
                Peer(.waitFor(1, .received(2)), .send("end"), .read(4), .halfClose, .readToEnd),
                Peer(.send("hi"), .read(2), .wait(.closed), .readToEnd),
            ],
            expected: [
                Expectation(
                    received: .exactly("end"), ended: true, closing: .peerClosed, peer: .exactly("done"), .end),
                Expectation(received: .exactly("hi"), closing: .localClose, peer: .exactly("hibye"), .end),
            ]),
        Scenario(
            "close_order", source: "libuv documentation, uv_close: the callback comes later, once", clauses: [1, 2, 9],
            handler: .scripts([
                Script(
                    .nothing,
                    [.on(.received(1), .other(1, [.close]), .close, .note("called")), .on(.close, .note("closed"))]),
                Script(.nothing, [.on(.close, .note("closed"))]),
            ]),
            peers: [Peer(.waitFor(1, .opened), .send("Q"), .readToEnd), Peer(.readToEnd)],
            expected: [
                Expectation(received: .exactly("Q"), closing: .localClose, .end),
                Expectation(closing: .localClose, .end),
            ], notes: ["called", "closed", "closed"]),
        Scenario(
            "let_go", source: "contract, clause 9: the last outside reference may be dropped in a callback",
            clauses: [9, 16], handler: .script(Script(.echo, [.on(.start, .letGo), .on(.received(3), .letGo)])),
            peers: [Peer(.send("abc"), .read(3), .halfClose, .readToEnd)], expected: [.echo(of: "abc")]),
    ]
}
