internal import CallbackModel

extension Scenario {
    static let writing: [Scenario] = [
        Scenario(
            "tcp_write_in_a_row", source: "libuv documentation, uv_write: the callbacks come in order", clauses: [5],
            options: .smallSendBuffer,
            handler: .script(
                Script(
                    .nothing,
                    [
                        .on(
                            .received(1), .writeCompleting(.pattern(20, count: 1_000_000)), .writeCompleting("b"),
                            .writeCompleting("c"), .writeCompleting(.pattern(21, count: 300_000))),
                        .on(.completion(3), .note("the last"), .end),
                    ])),
            peers: [Peer(.send("Q"), .wait(.received(1)), .readToEnd, receiveBuffer: 8_192)],
            expected: [
                Expectation(
                    received: .exactly("Q"), ended: true, closing: .localClose,
                    peer: .exactly(.pattern(20, count: 1_000_000) + "bc" + .pattern(21, count: 300_000)), .end
                ).with {
                    $0.completions = 4
                    $0.isDrained = nil
                }
            ], notes: ["the last"]),
        Scenario(
            "tcp_try_write", source: "libuv documentation, uv_try_write: what fits leaves at once", clauses: [5, 7],
            handler: .script(Script(.nothing, [.on(.start, .writeEach("PING", times: 3), .write("PONG"))])),
            peers: [Peer(.read(16), .halfClose, .readToEnd)],
            expected: [
                Expectation(ended: true, closing: .peerClosed, peer: .exactly("PINGPINGPINGPONG"), .end)
            ]),
        Scenario(
            "tcp_write_ready", source: "libuv documentation, uv_poll_t: writable while there is room", clauses: [5],
            handler: .clients([
                Script(.nothing, [.on(.open, .writeCompleting("a")), .on(.completion(0), .writeCompleting("b"), .end)])
            ]),
            peers: [Peer(.echoToEnd)],
            expected: [
                Expectation(received: .exactly("ab"), ended: true, closing: .localClose, peer: .exactly("ab"), .end)
                    .with { $0.completions = 2 }
            ]),
        Scenario(
            "completion_comes_later", source: "contract, clause 1: no callback inside a call", clauses: [1, 5],
            handler: .script(
                Script(
                    .nothing,
                    [
                        .on(.received(1), .writeCompleting(.pattern(27, count: 20_000)), .note("returned")),
                        .on(.completion(0), .note("completed")),
                    ])),
            peers: [Peer(.send("Q"), .read(20_000), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("Q"), ended: true, closing: .peerClosed,
                    peer: .exactly(.pattern(27, count: 20_000)), .end
                ).with { $0.completions = 1 }
            ], notes: ["returned", "completed"]),
        Scenario(
            "tcp_read_stop", source: "libuv documentation, uv_read_stop: no read callback after it", clauses: [3],
            handler: .script(
                Script(
                    .nothing,
                    [.on(.received(1), .pause, .startTimer(0, milliseconds: 20, [.resume]))])),
            peers: [Peer(.send("a"), .wait(.received(1)), .send(.pattern(22, count: 5_000)), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("a" + .pattern(22, count: 5_000)), ended: true, closing: .peerClosed, .end)
            ]),
        Scenario(
            "many_small_writes", source: "contract, clause 7: one callback's writes leave together", clauses: [5, 7],
            handler: .script(Script(.nothing, [.on(.received(1), .writeEach("0123456789", times: 1_000))])),
            peers: [Peer(.send("Q"), .read(10_000), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("Q"), ended: true, closing: .peerClosed,
                    peer: .exactly(.text(String(repeating: "0123456789", count: 1_000))), .end)
            ]),
        Scenario(
            "small_between_large", source: "contract, clause 5: bytes leave in the order of the calls", clauses: [5],
            options: .smallSendBuffer,
            handler: .script(
                Script(
                    .nothing,
                    [
                        .on(
                            .received(1), .write("a"), .write(.pattern(23, count: 50_000)), .write("b"),
                            .write(.pattern(24, count: 20_000)), .write("c"), .end)
                    ])),
            peers: [Peer(.send("Q"), .readToEnd, receiveBuffer: 8_192)],
            expected: [
                Expectation(
                    received: .exactly("Q"), ended: true, closing: .localClose,
                    peer: .exactly("a" + .pattern(23, count: 50_000) + "b" + .pattern(24, count: 20_000) + "c"), .end
                ).with { $0.isDrained = nil }
            ]),
        Scenario(
            "two_in_turn", source: "contract, clause 5: each connection's bytes in their order", clauses: [5, 7],
            handler: .scripts([
                Script(
                    .nothing,
                    [.on(.received(1), .write("a"), .other(1, [.write("1")]), .write("b"), .other(1, [.write("2")]))]),
                Script(),
            ]),
            peers: [
                Peer(.waitFor(1, .opened), .send("Q"), .read(2), .halfClose, .readToEnd),
                Peer(.read(2), .halfClose, .readToEnd),
            ],
            expected: [
                Expectation(received: .exactly("Q"), ended: true, closing: .peerClosed, peer: .exactly("ab"), .end),
                Expectation(ended: true, closing: .peerClosed, peer: .exactly("12"), .end),
            ]),
        Scenario(
            "saturated_and_drained", source: "contract, clause 6: one onDrain for each time it was full",
            clauses: [6],
            options: .connections {
                $0.highWaterMark = 100_000
                $0.lowWaterMark = 1_000
                $0.sendBufferSize = 4_096
            },
            handler: .script(
                Script(
                    .nothing,
                    [
                        .on(.received(1), .write(.pattern(25, count: 2_000_000))),
                        .on(.drain, .note("drained"), .write("drained"), .end),
                    ])),
            peers: [Peer(.send("Q"), .wait(.received(1)), .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("Q"), ended: true, closing: .localClose,
                    peer: .exactly(.pattern(25, count: 2_000_000) + "drained"), .end
                ).with { $0.isDrained = true }
            ], notes: ["drained"]),
        Scenario(
            "drain_is_owed_once", source: "contract, clause 6: nothing was full, nothing drains", clauses: [6],
            handler: .script(Script(.nothing, [.on(.received(1), .write("x")), .on(.drain, .note("drained"))])),
            peers: [Peer(.send("Q"), .read(1), .halfClose, .readToEnd)],
            expected: [
                Expectation(received: .exactly("Q"), ended: true, closing: .peerClosed, peer: .exactly("x"), .end)
            ]
        ),
        Scenario(
            "pipe_to_another", source: "contract, clause 6: pipe keeps its queue below the mark", clauses: [6],
            handler: .scripts([Script(), Script(.nothing, [.on(.start, .pipe(to: 0))])]),
            peers: [
                Peer(.readToEnd, receiveBuffer: 4_096),
                Peer(.waitFor(0, .opened), .connect, .send(.pattern(26, count: 800_000)), .halfClose, .readToEnd),
            ],
            expected: [
                Expectation(ended: true, closing: .localClose, peer: .exactly(.pattern(26, count: 800_000)), .end)
                    .with { $0.isDrained = nil },
                Expectation(
                    received: .exactly(.pattern(26, count: 800_000)), ended: true, closing: .peerClosed, .end),
            ]),
    ]
}

extension Listener.Options {
    /// The kernel takes little at once, so that a queue is real (SO_SNDBUF, socket(7)).
    static var smallSendBuffer: Listener.Options { .connections { $0.sendBufferSize = 16_384 } }
}
