import CallbackServer
import TestSupport
import Testing

/// What the compiler refuses is in `Tests/MisuseTests`. This is code that it could not check: each call plays in a
/// process of its own, from another thread while the loop runs, and the rule is read from standard error.
@Suite(.timeLimit(.minutes(20)), .onOwnThread, .enabled(if: isDebugBuild, "release builds do not check"))
struct `Contract 17: a call on the wrong thread` {
    @Test(arguments: Engine.allCases)
    func `a write`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            try playWithConnection(engine) { $0.write("from elsewhere") }
        }
        expect(result, "Connection.write")
    }

    @Test(arguments: Engine.allCases)
    func `a close`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            try playWithConnection(engine) { $0.close() }
        }
        expect(result, "Connection.close")
    }

    @Test(arguments: Engine.allCases)
    func `a stop, the call that is wanted most`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            try play(on: loop, with: loop) { $0.stop() }
        }
        expect(result, "EventLoop.stop")
    }

    @Test(arguments: Engine.allCases)
    func `a cancelled timer`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let loop = try EventLoop(engine: engine)
            let timer = loop.schedule(after: .seconds(60)) { _ in }
            try play(on: loop, with: timer) { $0.cancel() }
        }
        expect(result, "Timer.cancel")
    }

    @Test(arguments: Engine.allCases)
    func `a closed listener`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let stage = try Stage(engine)
            try play(on: stage.loop, with: stage.listener) { $0.close() }
        }
        expect(result, "Listener.close")
    }

    @Test(arguments: Engine.allCases)
    func `before the loop runs another thread may have set it up`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            nonisolated(unsafe) let loop = try EventLoop(engine: engine)
            nonisolated(unsafe) var count = 0
            try onThread { _ = loop.schedule(after: .zero) { _ in count += 1 } }.value()
            try loop.run()
            try onThread { _ = loop.schedule(after: .zero) { _ in count += 1 } }.value()
            try loop.run()
            precondition(count == 2)
        }
    }

    private func expect(
        _ result: ExitTest.Result?, _ call: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        for words in ["\(call) was called on another thread", "only EventLoop.Waker crosses threads"] {
            #expect(text.contains(words), "\(text.prefix(1_000))", sourceLocation: sourceLocation)
        }
    }
}

/// Calls `body` with an open connection on another thread, while the loop runs.
private func playWithConnection(_ engine: Engine, _ body: @escaping @Sendable (Connection) -> Void) throws {
    let stage = try Stage(engine) { connection in
        nonisolated(unsafe) let connection = connection
        _ = try? onThread { body(connection) }.value()
    }
    try stage.run { port in _ = try PlainClient(port: port).receiveUntilOver() }
}

/// The same with any object of the loop.
private func play<Object>(
    on loop: EventLoop, with object: Object, _ body: @escaping @Sendable (Object) -> Void
) throws {
    nonisolated(unsafe) let object = object
    loop.schedule(after: .zero) { _ in
        _ = try? onThread { body(object) }.value()
        loop.stop()
    }
    try loop.run()
}

/// Whether `assert` checks anything here.
private let isDebugBuild: Bool = {
    var isChecked = false
    assert({ isChecked = true }() == ())
    return isChecked
}()
