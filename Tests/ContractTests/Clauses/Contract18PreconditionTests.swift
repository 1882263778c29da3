import CallbackServer
import TestSupport
import Testing

/// A caller's bug traps with a sentence, which names the value. Each plays in a process of its own, and the
/// sentence is read from its standard error.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 18: preconditions` {
    @Test(arguments: Engine.allCases)
    func `a negative delay`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            loop.schedule(after: .milliseconds(-7)) { _ in }
        }
        expectSentence(result, "-0.007 seconds", "negative")
    }

    @Test(arguments: Engine.allCases)
    func `a negative delay of a timer that is armed again`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            let timer = loop.schedule(after: .seconds(1)) { _ in }
            timer.reschedule(after: .seconds(-3))
        }
        expectSentence(result, "-3.0 seconds", "negative")
    }

    @Test(arguments: Engine.allCases)
    func `an interval of less than a millisecond`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            loop.schedule(after: .zero, repeating: .microseconds(500)) { _ in }
        }
        expectSentence(result, "0.0005 seconds", "repeat")
    }

    @Test(arguments: Engine.allCases)
    func `a run inside a run`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            loop.schedule(after: .zero) { _ in try? loop.run() }
            try loop.run()
        }
        expectSentence(result, "EventLoop.run", "callback of the same loop")
    }

    @Test(arguments: Engine.allCases)
    func `options of a connection out of bounds`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let stage = try Stage(engine) { connection in connection.options.highWaterMark = -12 }
            try stage.run { port in _ = try PlainClient(port: port).receiveUntilOver() }
        }
        expectSentence(result, "highWaterMark -12", "Connection.options")
    }

    @Test(arguments: Engine.allCases)
    func `a frame without a byte, and a limit of none`(engine: Engine) async {
        let endless = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let stage = try Stage(engine) { connection in connection.onFrames(limit: 10) { _, _ in .frame } }
            try stage.run { port in
                let client = try PlainClient(port: port)
                try client.send("x")
                _ = try client.receiveUntilOver()
            }
        }
        expectSentence(endless, "onFrames", "nothing was read")
        let limit = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let stage = try Stage(engine) { connection in connection.onLines(limit: 0) { _, _ in } }
            try stage.run { port in _ = try PlainClient(port: port).receiveUntilOver() }
        }
        expectSentence(limit, "limit", "not 0")
    }

    @Test(arguments: Engine.allCases)
    func `a negative time to drain, with clients or without`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let stage = try Stage(engine)
            stage.listener.drain(within: .seconds(-2)) { _ in }
        }
        expectSentence(result, "-2.0 seconds", "negative")
    }
}
