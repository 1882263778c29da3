internal import CallbackModel

extension Scenario {
    private static let uvTimer = "libuv documentation, uv_timer_t"

    static let timing: [Scenario] =
        timeouts + [
            Scenario(
                "timer", source: uvTimer, clauses: [13], handler: .program(timer),
                notes: ["once", "repeating 1", "repeating 2", "repeating 3"]),
            Scenario(
                "timer_order", source: uvTimer + ": equal deadlines fire in the order of starting", clauses: [13],
                handler: .program(timerOrder), notes: ["first", "second", "third"]),
            Scenario(
                "timer_early_check", source: uvTimer + "; clock_gettime(2)", clauses: [13],
                handler: .program(timerEarlyCheck), notes: ["not early"]),
            Scenario(
                "timer_again", source: uvTimer + ", uv_timer_again", clauses: [13], handler: .program(timerAgain),
                notes: ["1", "2", "cancelled", "again"]),
            Scenario(
                "timer_start_twice", source: uvTimer + ", uv_timer_start: a second start replaces the first",
                clauses: [13], handler: .program(timerStartTwice), notes: ["fired after the second time"]),
            Scenario(
                "timer_huge_timeout", source: uvTimer + ": no sum of times overflows", clauses: [13],
                handler: .program(timerHuge), notes: ["tiny", "huge is armed: true", "huge is armed: false"]),
            Scenario(
                "timer_zero_delay", source: "contract, clause 13: in the next turn, never in this one", clauses: [13],
                handler: .program(timerZero), notes: ["outer", "inner", "innermost"]),
            Scenario(
                "timer_cancels_others", source: "contract, clause 13: any timer from any timer's callback",
                clauses: [13],
                handler: .program(timerCancels), notes: ["first", "last"]),
            Scenario(
                "timer_unref", source: "libuv documentation, uv_unref", clauses: [13, 16],
                handler: .program(timerUnref),
                notes: ["referenced"]),
        ]

    private static func timer(_ stage: Stage) {
        stage.loop.schedule(after: .milliseconds(2)) { _ in stage.callback("once") { stage.note("once") } }
        var count = 0
        stage.loop.schedule(after: .milliseconds(20), repeating: .milliseconds(3)) { timer in
            stage.callback("repeating") {
                count += 1
                stage.note("repeating \(count)")
                if count == 3 { timer.cancel() }
            }
        }
        stage.loop.schedule(after: .milliseconds(5)) { _ in stage.note("never") }.cancel()
    }

    private static func timerOrder(_ stage: Stage) {
        // They are due long before the loop looks, so that the order is not that of the deadlines alone.
        let names = ["first", "second", "third"]
        stage.loop.schedule(after: .zero) { _ in
            for name in names { stage.loop.schedule(after: .milliseconds(3)) { _ in stage.note(name) } }
        }
    }

    private static func timerEarlyCheck(_ stage: Stage) {
        var isEarly = false
        var left = 10
        for delay in 1...left {
            let start = ContinuousClock.now
            stage.loop.schedule(after: .milliseconds(delay)) { _ in
                if ContinuousClock.now - start < .milliseconds(delay) { isEarly = true }
                left -= 1
                if left == 0 { stage.note(isEarly ? "early" : "not early") }
            }
        }
    }

    private static func timerAgain(_ stage: Stage) {
        var count = 0
        stage.loop.schedule(after: .milliseconds(1), repeating: .milliseconds(2)) { timer in
            count += 1
            switch count {
            case 1: stage.note("1")
            case 2:
                stage.note("2")
                timer.cancel()
                stage.note("cancelled")
                timer.reschedule(after: .milliseconds(4))
            default:
                stage.note("again")
                timer.cancel()
            }
        }
    }

    private static func timerStartTwice(_ stage: Stage) {
        let start = ContinuousClock.now
        let timer = stage.loop.schedule(after: .milliseconds(1)) { _ in
            let isLate = ContinuousClock.now - start >= .milliseconds(15)
            stage.note(isLate ? "fired after the second time" : "fired after the first time")
        }
        timer.reschedule(after: .milliseconds(15))
    }

    private static func timerHuge(_ stage: Stage) {
        let huge = stage.loop.schedule(after: .seconds(Int64.max)) { _ in stage.note("huge") }
        let large = stage.loop.schedule(after: .milliseconds(Int64(UInt32.max) + 1)) { _ in stage.note("large") }
        stage.loop.schedule(after: .milliseconds(1)) { _ in
            stage.note("tiny")
            stage.note("huge is armed: \(huge.isArmed)")
            huge.cancel()
            large.cancel()
            stage.note("huge is armed: \(huge.isArmed)")
        }
    }

    private static func timerZero(_ stage: Stage) {
        stage.loop.schedule(after: .zero) { _ in
            stage.callback("outer") {
                stage.loop.schedule(after: .zero) { _ in
                    stage.callback("inner") {
                        stage.note("inner")
                        stage.loop.schedule(after: .zero) { _ in stage.callback("innermost") { stage.note("innermost") }
                        }
                    }
                }
                stage.note("outer")
            }
        }
    }

    private static func timerCancels(_ stage: Stage) {
        var victims: [EventLoop.Timer] = []
        stage.loop.schedule(after: .zero) { _ in
            stage.loop.schedule(after: .milliseconds(2)) { _ in
                stage.note("first")
                for victim in victims { victim.cancel() }
            }
            victims = (0..<3).map { number in
                stage.loop.schedule(after: .milliseconds(2)) { _ in stage.note("victim \(number)") }
            }
            stage.loop.schedule(after: .milliseconds(2)) { _ in stage.note("last") }
        }
    }

    private static func timerUnref(_ stage: Stage) {
        stage.loop.schedule(after: .seconds(60)) { _ in stage.note("unreferenced") }.unref()
        stage.loop.schedule(after: .milliseconds(2)) { _ in stage.note("referenced") }
    }
}

extension Scenario {
    private static let ours = "contract: Connection.Timeouts"

    private static let timeouts: [Scenario] = [
        Scenario(
            "tcp_close_after_read_timeout", source: ours + ".read", clauses: [2],
            options: .connections { $0.timeouts.read = .milliseconds(20) }, handler: .script(Script(.echo)),
            peers: [Peer(.send("hi"), .read(2), .readToEnd)],
            expected: [
                Expectation(received: .exactly("hi"), closing: .timedOut(.read), peer: .exactly("hi"), .end)
                    .with { $0.timeouts = [.read] }
            ]),
        Scenario(
            "idle_timeout", source: ours + ".idle", clauses: [2],
            options: .connections { $0.timeouts.idle = .milliseconds(20) }, handler: .script(Script(.echo)),
            peers: [Peer(.readToEnd)],
            expected: [Expectation(closing: .timedOut(.idle), .end).with { $0.timeouts = [.idle] }]),
        Scenario(
            "timeout_that_keeps", source: "contract: TimeoutAction.keep", clauses: [2],
            options: .connections { $0.timeouts.idle = .milliseconds(5) },
            handler: .script(Script(.echo, [.on(.timeout, .keep)])),
            peers: [Peer(.wait(.timedOut(3)), .send("still here"), .read(10), .halfClose, .readToEnd)],
            expected: [Expectation.echo(of: "still here").with { $0.timeouts = nil }]),
        Scenario(
            "timeout_that_resets", source: "contract, clause 9: any call from any callback", clauses: [9],
            options: .connections { $0.timeouts.read = .milliseconds(5) },
            handler: .script(Script(.nothing, [.on(.timeout, .reset, .keep)])), peers: [Peer(.readToEnd)],
            expected: [Expectation(closing: .localReset, .reset).with { $0.timeouts = [.read] }]),
        Scenario(
            "write_timeout", source: ours + ".write", clauses: [2, 5],
            options: .connections { $0.timeouts.write = .milliseconds(50) },
            handler: .script(Script(.nothing, [.on(.received(1), .writeCompleting(.pattern(40, count: 20_000_000)))])),
            peers: [Peer(.send("Q"), .wait(.closed), .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("Q"), closing: .timedOut(.write),
                    peer: .prefix(of: .pattern(40, count: 20_000_000)), .reset
                ).with {
                    $0.failures = 1
                    $0.timeouts = [.write]
                }
            ]),
        Scenario(
            "idle_timeout_of_a_part", source: ours + ".idle: bytes that wait are reset with it", clauses: [2, 5],
            options: .connections { $0.timeouts.idle = .milliseconds(50) },
            handler: .script(Script(.nothing, [.on(.received(1), .write(.pattern(42, count: 20_000_000)))])),
            peers: [Peer(.send("Q"), .wait(.closed), .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("Q"), closing: .timedOut(.idle),
                    peer: .prefix(of: .pattern(42, count: 20_000_000)), .reset
                ).with { $0.timeouts = [.idle] }
            ]),
        Scenario(
            "close_timeout", source: ours + ".close: then the rest is dropped and the peer reset", clauses: [5],
            options: .connections { $0.timeouts.close = .milliseconds(30) },
            handler: .script(Script(.nothing, [.on(.received(1), .write(.pattern(41, count: 20_000_000)), .close)])),
            peers: [Peer(.send("Q"), .wait(.closed), .readToEnd, receiveBuffer: 4_096)],
            expected: [
                Expectation(
                    received: .exactly("Q"), closing: .timedOut(.close),
                    peer: .prefix(of: .pattern(41, count: 20_000_000)), .reset)
            ]),
        honestOverAStall, deadOverAStall,
        Scenario(
            "timer_answers_later", source: uvTimer, clauses: [13],
            handler: .script(
                Script(
                    .nothing,
                    [
                        .on(
                            .received(1), .startTimer(0, milliseconds: 60_000, [.write("never")]),
                            .startTimer(1, milliseconds: 50_000, [.write("again"), .end]), .cancelTimer(0),
                            .rearmTimer(1, milliseconds: 5))
                    ])),
            peers: [Peer(.send("Q"), .readToEnd)],
            expected: [
                Expectation(received: .exactly("Q"), ended: true, closing: .localClose, peer: .exactly("again"), .end)
            ]),
    ]
}

// MARK: - Stalls

extension Scenario {
    private static let long = Payload.pattern(42, count: 4_500_000)

    /// Connection 0 sets time-outs for the others and takes longer than they are, while the peers of these act. What it
    /// waits for is in the kernel then, and the loop has not looked.
    private static let honestOverAStall = Scenario(
        "honest_over_a_stall", source: "contract, clause 13: a late loop ends no honest peer", clauses: [13],
        handler: .scripts([
            Script(
                .nothing,
                [
                    .on(
                        .received(1), .other(1, [.setTimeout(.idle, milliseconds: 300)]),
                        .other(2, [.setTimeout(.read, milliseconds: 300)]),
                        .other(3, [.writeCompleting(long), .setTimeout(.write, milliseconds: 300)]),
                        .other(4, [.write(long), .setTimeout(.close, milliseconds: 300), .close]),
                        .awaitInput(of: 1), .awaitInput(of: 2), .awaitRoom(of: 3), .awaitRoom(of: 4),
                        .stall(milliseconds: 400))
                ]),
            Script(.echo, [.on(.received(1), .setTimeout(.idle, milliseconds: nil))]),
            Script(.echo, [.on(.received(1), .setTimeout(.read, milliseconds: nil))]),
            Script(.nothing, [.on(.completion(0), .setTimeout(.write, milliseconds: nil))]),
            Script(.nothing),
        ]),
        peers: [
            Peer(
                .waitFor(1, .opened), .waitFor(2, .opened), .waitFor(3, .opened), .waitFor(4, .opened), .send("S"),
                .waitFor(1, .closed), .waitFor(2, .closed), .waitFor(3, .closed), .waitFor(4, .closed), .halfClose,
                .readToEnd),
            Peer(.waitFor(0, .received(1)), .send("x"), .read(1), .halfClose, .readToEnd),
            Peer(.waitFor(0, .received(1)), .send("y"), .read(1), .halfClose, .readToEnd),
            Peer(.waitFor(0, .received(1)), .read(4_500_000), .halfClose, .readToEnd),
            Peer(.waitFor(0, .received(1)), .readToEnd),
        ],
        expected: [
            Expectation(received: .exactly("S"), ended: true, closing: .peerClosed, .end),
            .echo(of: "x"), .echo(of: "y"),
            Expectation(ended: true, closing: .peerClosed, peer: .exactly(long), .end).with {
                $0.completions = 1
                $0.isDrained = nil
            },
            Expectation(closing: .localClose, peer: .exactly(long), .end).with { $0.isDrained = nil },
        ])

    /// The same with peers that do nothing.
    private static let deadOverAStall = Scenario(
        "dead_over_a_stall", source: "contract, clause 13: a late loop ends no honest peer, and all others",
        clauses: [13],
        handler: .scripts([
            Script(
                .nothing,
                [
                    .on(
                        .received(1), .other(1, [.setTimeout(.idle, milliseconds: 100)]),
                        .other(2, [.setTimeout(.read, milliseconds: 100)]),
                        .other(3, [.writeCompleting(long), .setTimeout(.write, milliseconds: 100)]),
                        .other(4, [.write(long), .setTimeout(.close, milliseconds: 100), .close]),
                        .stall(milliseconds: 150))
                ]),
            Script(.nothing), Script(.nothing), Script(.nothing), Script(.nothing),
        ]),
        peers: [
            Peer(
                .waitFor(1, .opened), .waitFor(2, .opened), .waitFor(3, .opened), .waitFor(4, .opened), .send("S"),
                .waitFor(1, .closed), .waitFor(2, .closed), .waitFor(3, .closed), .waitFor(4, .closed), .halfClose,
                .readToEnd),
            Peer(.wait(.closed), .readToEnd), Peer(.wait(.closed), .readToEnd),
            Peer(.wait(.closed), .readToEnd), Peer(.wait(.closed), .readToEnd),
        ],
        expected: [
            Expectation(received: .exactly("S"), ended: true, closing: .peerClosed, .end),
            Expectation(closing: .timedOut(.idle), .end).with { $0.timeouts = [.idle] },
            Expectation(closing: .timedOut(.read), .end).with { $0.timeouts = [.read] },
            Expectation(closing: .timedOut(.write), peer: .prefix(of: long), .reset).with {
                $0.failures = 1
                $0.timeouts = [.write]
            },
            Expectation(closing: .timedOut(.close), peer: .prefix(of: long), .reset),
        ])
}
