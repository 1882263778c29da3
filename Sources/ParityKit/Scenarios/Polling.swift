internal import CallbackModel

extension Scenario {
    private static let readiness = "poll(2): both directions are reported, each for itself"

    static let polling: [Scenario] = [
        Scenario(
            "poll_duplex", source: readiness, clauses: [3, 5],
            handler: .script(Script(.nothing, [.on(.start, .writeCompleting(.pattern(60, count: 2_000_000)))])),
            peers: [
                Peer(.exchange(.pattern(61, count: 2_000_000), receiving: 2_000_000), .halfClose, .readToEnd)
            ],
            expected: [
                Expectation(
                    received: .exactly(.pattern(61, count: 2_000_000)), ended: true, closing: .peerClosed,
                    peer: .exactly(.pattern(60, count: 2_000_000)), .end
                ).with {
                    $0.completions = 1
                    $0.isDrained = nil
                }
            ]),
        Scenario(
            "poll_unidirectional", source: readiness, clauses: [3, 4, 5],
            handler: .scripts([
                Script(.nothing, [.on(.start, .write(.pattern(62, count: 600_000)), .end)]),
                Script(.nothing),
            ]),
            peers: [Peer(.halfClose, .readToEnd), Peer(.send(.pattern(63, count: 600_000)), .halfClose, .readToEnd)],
            expected: [
                Expectation(ended: true, closing: .localClose, peer: .exactly(.pattern(62, count: 600_000)), .end)
                    .with { $0.isDrained = nil },
                Expectation(
                    received: .exactly(.pattern(63, count: 600_000)), ended: true, closing: .peerClosed, .end),
            ]),
        Scenario(
            "poll_close", source: "epoll(7): a closed descriptor reports nothing more", clauses: [9, 10],
            handler: .scripts(
                (0..<6).map { number in
                    // The first to be told closes all others, some of which have events in the same batch.
                    let others = (0..<6).filter { $0 != number }.map { Script.Action.other($0, [.close]) }
                    return Script(.nothing, [.init(trigger: .received(1), actions: others + [.close])])
                }),
            peers: (0..<6).map { _ in Peer(.waitFor(5, .opened), .wait(.opened), .send("x"), .readToEnd) },
            expected: (0..<6).map { _ in Expectation(received: .undetermined, closing: .localClose, nil) }),
        Scenario(
            "poll_multiple_handles", source: "open(2): the lowest number that is free is handed out again",
            clauses: [10], handler: .program(reuseNumbers),
            peers: (0..<4).map { number in Peer(.read(5), .send(.text("to \(number)")), .readToEnd) },
            expected: (0..<4).map { number in
                Expectation(
                    received: .exactly(.text("to \(number)")), closing: .localClose, peer: .exactly("hello"), .end)
            }, notes: ["closed 0", "closed 1", "closed 2", "closed 3"]),
        Scenario(
            "stale_events", source: "epoll(7), Q6: events that were fetched before a close", clauses: [10],
            handler: .scripts([
                Script(.nothing, [.on(.received(1), .other(1, [.reset]), .other(2, [.reset]), .write("done"), .end)]),
                Script(.nothing, [.on(.received(2), .note("too late"))]),
                Script(.nothing, [.on(.received(2), .note("too late"))]),
            ]),
            peers: [
                Peer(.waitFor(1, .received(1)), .waitFor(2, .received(1)), .send("Q"), .readToEnd),
                Peer(.send("a"), .wait(.closed), .readToEnd), Peer(.send("b"), .wait(.closed), .readToEnd),
            ],
            expected: [
                Expectation(received: .exactly("Q"), ended: true, closing: .localClose, peer: .exactly("done"), .end),
                Expectation(received: .exactly("a"), closing: .localReset, .reset),
                Expectation(received: .exactly("b"), closing: .localReset, .reset),
            ]),
        Scenario(
            "paused_and_hung_up", source: "poll(2): POLLHUP cannot be masked; contract: no spinning", clauses: [4, 11],
            on: .unix,
            handler: .script(
                Script(.nothing, [.on(.received(1), .pause, .startTimer(0, milliseconds: 300, [.resume]))])),
            peers: [Peer(.send("Q"), .wait(.received(1)), .send("more"), .close)],
            expected: [Expectation(received: .exactly("Qmore"), ended: true, closing: .peerClosed, .unseen)]),
        Scenario(
            "half_closed_and_waiting", source: "epoll(7): EPOLLRDHUP stays; contract: no spinning", clauses: [4],
            options: .connections { $0.allowsHalfOpen = true },
            handler: .script(Script(.nothing, [.on(.end, .startTimer(0, milliseconds: 300, [.write("late"), .end]))])),
            peers: [Peer(.halfClose, .readToEnd)],
            expected: [Expectation(ended: true, closing: .peerClosed, peer: .exactly("late"), .end)]),
    ]

    /// Each connection is closed when the next is about to be made, which then has its number.
    private static func reuseNumbers(_ stage: Stage) throws(IOError) {
        func begin(_ number: Int) throws(IOError) {
            try stage.connect(to: number) { connection in
                connection.onOpen = { $0.write("hello") }
                var received = 0
                connection.onData = { connection, bytes in
                    received += bytes.count
                    if received == 4 { connection.close() }
                }
                connection.onClose = { _, _ in
                    stage.note("closed \(number)")
                    if number < 3, (try? begin(number + 1)) == nil { stage.note("no socket") }
                }
            }
        }
        // All listen from the beginning.
        for number in 0..<4 { _ = try stage.peerAddress(number) }
        try begin(0)
    }
}
