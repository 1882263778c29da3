internal import CallbackModel
internal import Glibc

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
            peers: (0..<6).map { _ in
                Peer(steps: (0..<6).map { .waitFor($0, .opened) } + [.send("x"), .readToEnd])
            },
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
            "stale_event_for_a_new_owner",
            source: "epoll(7), Q6; open(2): a number that was freed in a batch of events is handed out in the same one",
            clauses: [10], handler: .program(newOwner),
            peers: [
                Peer(.read(2), .send("x"), .readToEnd), Peer(.read(2), .send("x"), .readToEnd),
                Peer(.read(2), .send("there"), .readToEnd),
            ],
            expected: [
                Expectation(received: .undetermined, closing: nil, peer: .exactly("go"), nil),
                Expectation(received: .undetermined, closing: nil, peer: .exactly("go"), nil),
                Expectation(received: .exactly("there"), closing: .localClose, peer: .exactly("hi"), .end)
                    .with { $0.isOpened = nil },
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

    /// Two connections have something to read in one batch; the first that is told closes the other, whose number goes
    /// to a third.
    private static func newOwner(_ stage: Stage) throws(IOError) {
        let spare = try stage.connectedSocket(to: 2)
        var pair: [Connection] = []
        var isDone = false
        func take(_ first: Connection) {
            guard !isDone, let other = pair.first(where: { $0 !== first }) else { return }
            isDone = true
            let number = other.descriptor
            other.reset()
            let reused = fcntl(spare, F_DUPFD, number)
            _ = close(spare)
            guard let third = try? stage.loop.adopt(connected: reused) else { return stage.note("not adopted") }
            stage.observe(third, as: 2) { third in
                third.write("hi")
                third.onData = { third, _ in third.close() }
                third.onClose = { _, _ in first.close() }
            }
        }
        for number in 0..<2 {
            try stage.connect(to: number) { connection in
                connection.onData = { connection, _ in take(connection) }
                connection.onOpen = { connection in
                    connection.write("go")
                    connection.pause()
                    pair.append(connection)
                    if pair.count == 2 { resumeTogether(stage, pair) }
                }
                connection.onClose = { _, _ in pair = [] }
            }
        }
    }

    private static func resumeTogether(_ stage: Stage, _ pair: [Connection]) {
        stage.loop.schedule(after: .milliseconds(1)) { [limit = stage.scenario.timeLimit] _ in
            for connection in pair {
                _ = awaitReadiness(of: connection.descriptor, POLLIN, until: ContinuousClock.now + limit)
            }
            for connection in pair { connection.resume() }
        }
    }

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
