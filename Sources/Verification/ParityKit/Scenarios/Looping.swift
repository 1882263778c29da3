internal import CallbackModel
internal import Glibc
internal import Synchronization

extension Scenario {
    private static let uvRun = "libuv documentation, uv_run"

    static let looping: [Scenario] = [
        Scenario(
            "loop_stop", source: "libuv documentation, uv_stop", clauses: [16], handler: .program(loopStop),
            notes: ["1", "2", "3", "stopped", "4", "5", "idle"]),
        Scenario(
            "loop_alive", source: "libuv documentation, uv_loop_alive", clauses: [16], handler: .program(loopAlive),
            notes: ["at first: false", "with a timer: true", "fired", "at last: false"]),
        Scenario(
            "loop_close", source: "libuv documentation, uv_loop_close; contract, clause 16", clauses: [10, 16],
            handler: .program(loopClose), peers: [Peer(.wait(.received(2)), .send("!"), .readToEnd)],
            expected: [Expectation(received: .undetermined, closing: .never, nil)]
        ).with { $0.peers[0] = Peer(.send("hi"), .wait(.received(2)), .readToEnd) },
        Scenario(
            "run_once", source: uvRun + ", UV_RUN_ONCE", clauses: [16], handler: .program(runOnce),
            notes: ["fired 1", "fired 2", "fired 3", "turns are enough: true"]),
        Scenario(
            "run_nowait", source: uvRun + ", UV_RUN_NOWAIT", clauses: [16], handler: .program(runNoWait),
            notes: ["did not wait: true", "cancelled"]),
        Scenario(
            "active", source: "libuv documentation, uv_is_active", clauses: [13, 16], handler: .program(active),
            notes: ["armed: true", "cancelled: false", "armed again: true", "firing: false", "fired: false"]),
        Scenario(
            "async", source: "libuv documentation, uv_async_send: from any thread", clauses: [1, 17],
            handler: .program(async), notes: ["in order, each once: true"]),
        Scenario(
            "async_from_the_loop", source: "contract, clause 17: also from a callback, and later", clauses: [1, 17],
            handler: .program(asyncFromTheLoop), notes: ["asked", "done", "done again"]),
        Scenario(
            "waker_without_a_loop", source: "contract: Waker.execute answers false when the loop is gone",
            clauses: [16, 17], handler: .program(wakerWithoutLoop), notes: ["while it is there: true"]),
        Scenario(
            "threadpool_queue_work", source: "libuv documentation, uv_queue_work", clauses: [17],
            handler: .program(offload), notes: ["42 from another thread: true"]),
        Scenario(
            "nested_nowhere", source: "contract, clause 1: no callback inside a call", clauses: [1],
            handler: .scripts([
                Script(
                    .nothing,
                    [
                        .on(
                            .received(1), .other(1, [.write("a"), .close]), .other(2, [.reset]), .writeCompleting("b"),
                            .startTimer(0, milliseconds: 0, [.note("timer"), .write("c"), .end]), .note("returned"))
                    ]),
                Script(), Script(),
            ]),
            peers: [
                Peer(.waitFor(1, .opened), .waitFor(2, .opened), .send("Q"), .readToEnd), Peer(.readToEnd),
                Peer(.readToEnd),
            ],
            expected: [
                Expectation(received: .exactly("Q"), ended: true, closing: .localClose, peer: .exactly("bc"), .end)
                    .with { $0.completions = 1 },
                Expectation(closing: .localClose, peer: .exactly("a"), .end),
                Expectation(closing: .localReset, .reset),
            ], notes: ["returned", "timer"]),
    ]

    private static func loopStop(_ stage: Stage) throws(IOError) {
        var count = 0
        stage.loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { timer in
            count += 1
            stage.note("\(count)")
            if count == 3 { stage.loop.stop() }
            if count == 5 { timer.cancel() }
        }
        try stage.loop.run()
        stage.note("stopped")
        // Outside of a run it does nothing.
        stage.loop.stop()
        try stage.loop.run()
        stage.note("idle")
    }

    private static func loopAlive(_ stage: Stage) throws(IOError) {
        stage.note("at first: \(stage.loop.isAlive)")
        stage.loop.schedule(after: .milliseconds(1)) { _ in stage.note("fired") }
        stage.note("with a timer: \(stage.loop.isAlive)")
        try stage.loop.run()
        stage.note("at last: \(stage.loop.isAlive)")
    }

    /// The loop is let go with a listener, a connection and a timer.
    private static func loopClose(_ stage: Stage) throws(IOError) {
        try stage.listen { [unowned stage] connection in
            connection.onData = { _, _ in
                stage.loop.schedule(after: .seconds(60)) { _ in stage.note("never") }
                stage.loop.stop()
            }
        }
    }

    private static func runOnce(_ stage: Stage) throws(IOError) {
        var fired = 0
        for delay in 1...3 {
            stage.loop.schedule(after: .milliseconds(delay * 3)) { _ in
                fired += 1
                stage.note("fired \(fired)")
            }
        }
        var turns = 0
        while stage.loop.isAlive, turns < 1_000 {
            turns += 1
            try stage.loop.run(.once)
        }
        stage.note("turns are enough: \(turns < 100)")
    }

    private static func runNoWait(_ stage: Stage) throws(IOError) {
        let timer = stage.loop.schedule(after: .seconds(60)) { _ in stage.note("fired") }
        let start = ContinuousClock.now
        for _ in 0..<3 { try stage.loop.run(.noWait) }
        stage.note("did not wait: \(ContinuousClock.now - start < .seconds(30))")
        timer.cancel()
        stage.note("cancelled")
    }

    private static func active(_ stage: Stage) {
        let timer = stage.loop.schedule(after: .milliseconds(2)) { timer in stage.note("firing: \(timer.isArmed)") }
        stage.note("armed: \(timer.isArmed)")
        timer.cancel()
        stage.note("cancelled: \(timer.isArmed)")
        timer.reschedule(after: .milliseconds(1))
        stage.note("armed again: \(timer.isArmed)")
        stage.loop.schedule(after: .milliseconds(10)) { _ in stage.note("fired: \(timer.isArmed)") }
    }

    private static func async(_ stage: Stage) {
        let count = 500
        let waker = stage.loop.waker
        let arrived = Mutex<[Int]>([])
        let shared = Shared(arrived)
        // Once the loop runs, which looks at its beginning for what was asked before.
        stage.loop.schedule(after: .zero) { _ in
            let thread = startThread {
                for number in 0..<count {
                    waker.execute { shared.value.withLock { $0.append(number) } }
                }
            }
            stage.board.add(thread)
        }
        // Keeps the loop until the last has come.
        let hold = stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
            let numbers = shared.value.withLock { $0 }
            guard numbers.count == count else { return }
            timer.cancel()
            stage.note("in order, each once: \(numbers == Array(0..<count))")
        }
        hold.ref()
    }

    /// A mutex that closures can share.
    private final class Shared<Value: Sendable>: Sendable {
        let value: Mutex<Value>

        init(_ value: consuming Mutex<Value>) { self.value = value }
    }

    private static func asyncFromTheLoop(_ stage: Stage) {
        let waker = stage.loop.waker
        stage.loop.schedule(after: .milliseconds(1)) { _ in
            stage.callback("the timer") {
                waker.execute {
                    StageOfThread.current?.callback("the first") { StageOfThread.current?.note("done") }
                    waker.execute { StageOfThread.current?.note("done again") }
                }
                stage.note("asked")
            }
        }
        // Executions keep the loop running until they have run, but the timer has to come first.
    }

    private static func wakerWithoutLoop(_ stage: Stage) {
        let isThere = stage.loop.waker.execute {}
        stage.note("while it is there: \(isThere)")
    }

    private static func offload(_ stage: Stage) throws(IOError) {
        let here = UInt(pthread_self())
        try stage.loop.offload({ (42, UInt(pthread_self())) }) { result in
            stage.callback("the result") {
                guard case .success(let (answer, thread)) = result else { return stage.note("failed") }
                stage.note("\(answer) from another thread: \(thread != here)")
            }
        }
    }
}
