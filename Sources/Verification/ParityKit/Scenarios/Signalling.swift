internal import CallbackModel
internal import Glibc

extension Scenario {
    /// Signals are the process's: no two loops of different engines may watch one signal at the same time.
    static let signalling: [Scenario] = [
        Scenario(
            "we_get_signals", source: "libuv documentation, uv_signal_t; signal(7)", clauses: [15],
            handler: .program(signals), notes: ["1", "2", "3", "cancelled"]),
        Scenario(
            "we_get_signals_one_shot", source: "libuv documentation, uv_signal_start_oneshot", clauses: [15],
            handler: .program(oneShot), notes: ["once"]),
        Scenario(
            "signals_while_echoing", source: "signal(7): EINTR; contract, clause 15: never seen by users",
            clauses: [15], handler: .program(interrupted), peers: [.echoed(.pattern(70, count: 1_500_000))],
            expected: [.echo(of: .pattern(70, count: 1_500_000))], notes: []),
        Scenario(
            "signal_that_cannot_be_caught", source: "sigaction(2): EINVAL for SIGKILL", clauses: [15, 18],
            handler: .program(uncatchable), notes: ["SIGKILL: EINVAL", "SIGPIPE: EINVAL"]),
    ]

    /// Signals whose default is to be ignored, so that a late one ends no process (signal(7)).
    private static let continued = EventLoop.Signal(rawValue: SIGCONT)

    private static func signals(_ stage: Stage) throws(IOError) {
        var count = 0
        try stage.loop.onSignal(continued) { watcher in
            stage.callback("the watcher") {
                count += 1
                stage.note("\(count)")
                guard count == 3 else { return _ = kill(getpid(), SIGCONT) }
                watcher.cancel()
                stage.note("cancelled")
            }
        }
        stage.loop.schedule(after: .milliseconds(1)) { _ in _ = kill(getpid(), SIGCONT) }
    }

    private static func oneShot(_ stage: Stage) throws(IOError) {
        try stage.loop.onSignal(continued) { watcher in
            stage.note("once")
            watcher.cancel()
            _ = kill(getpid(), SIGCONT)
        }
        stage.loop.schedule(after: .milliseconds(1)) { _ in _ = kill(getpid(), SIGCONT) }
    }

    private static func interrupted(_ stage: Stage) throws(IOError) {
        let watcher = try stage.loop.onSignal(continued) { _ in }
        watcher.unref()
        let storm = stage.loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { _ in
            _ = kill(getpid(), SIGCONT)
        }
        storm.unref()
        try stage.listen { stage.play(Script(.echo), $0, as: stage.number(of: $0)) }
    }

    private static func uncatchable(_ stage: Stage) {
        for (name, number) in [("SIGKILL", SIGKILL), ("SIGPIPE", SIGPIPE)] {
            do throws(IOError) {
                try stage.loop.onSignal(EventLoop.Signal(rawValue: number)) { _ in }.cancel()
                stage.note("\(name): no error")
            } catch {
                stage.note("\(name): \(error.name)")
            }
        }
    }
}
