import CallbackServer
import TestSupport
import Testing

/// The main actor's tasks, which `run` runs on the first thread. That thread is never a test's, so programs play it:
/// `Tests/Programs`.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Main-actor tasks` {
    @Test(arguments: ["TopLevelTasks", "AsyncMainTasks", "DefaultIsolationTasks"], Engine.allCases)
    func `answer in each form of a program`(program: String, engine: Engine) throws {
        let child = try start(program, engine)
        let client = try PlainClient(port: try port(of: child))
        for number in 1...20 {
            try client.send("?")
            #expect(try client.receiveLine() == "answer \(number)")
        }
        client.close()
        #expect(try child.waitForExit() == .exited(0))
        #expect(child.standardErrorText == "")
    }

    @Test(arguments: Engine.allCases)
    func `cannot be served once main has suspended, and that is told`(engine: Engine) throws {
        let child = try start("AsyncMainTasks", engine, "suspended")
        _ = try port(of: child)
        try child.waitForLine(
            containing: "EventLoop.run was called on the main actor, but not on the process's first thread",
            from: .standardError)
    }

    @Test(arguments: Engine.allCases)
    func `are not lost, 100,000 from callbacks`(engine: Engine) throws {
        #expect(try play("many", engine) == ["ended 100000"])
    }

    /// `CALLBACKSERVER_TASKS=1000000` is the full size, and tells figures.
    @Test(.heavy, arguments: Engine.allCases)
    func `are not lost beside messages, which are answered meanwhile`(engine: Engine) throws {
        let count = size("CALLBACKSERVER_TASKS", orElse: 50_000)
        let child = try start("MainQueue", engine, "beside", "\(count)")
        let client = try PlainClient(port: try port(of: child))
        func roundTrip(_ byte: Character) throws -> Duration {
            let message = [UInt8](repeating: byte.asciiValue ?? 0, count: 64)
            let start = ContinuousClock.now
            try client.send(message)
            #expect(try client.receive(exactly: 64) == message)
            return .now - start
        }
        let alone = try (0..<2_000).map { _ in try roundTrip("m") }.sorted()
        var beside = [try roundTrip("T")]
        while !child.standardOutputText.contains("ended") { beside.append(try roundTrip("m")) }
        #expect(child.standardOutputText.contains("ended \(count)\n"))
        client.close()
        #expect(try child.waitForExit() == .exited(0))
        guard count > 50_000 else { return }
        beside.sort()
        print(
            "\(count) tasks, \(engine): a message takes \(alone[1_000]) (p99 \(alone[1_980])) alone,",
            "\(beside[beside.count / 2]) (p99 \(beside[beside.count * 99 / 100])) beside them, \(beside.count) messages"
        )
    }

    @Test(arguments: Engine.allCases)
    func `do not starve the loop, nor does it starve them`(engine: Engine) throws {
        #expect(try play("fair", engine) == ["ticks 50, tasks for a turn: one"])
    }

    @Test(arguments: Engine.allCases)
    func `have a turn more when nothing else is left`(engine: Engine) throws {
        let expected = [
            "queued before run", "queued by the last callback", "queued by the last of all", "run has returned",
            "left for the next run", "a turn: once", "a turn: noWait",
            "a stop at the end of a run ends no other", "measured as tasks",
        ]
        #expect(try play("end", engine) == expected)
    }

    @Test(arguments: Engine.allCases)
    func `wait while the loop runs on another thread, which does not spin`(engine: Engine) throws {
        let expected = ["on the first thread", "turns elsewhere: few", "on the first thread again"]
        #expect(try play("thread", engine) == expected)
    }

    @Test(arguments: Engine.allCases)
    func `run in a loop inside a callback, and not in one inside a task`(engine: Engine) throws {
        let expected = [
            "in a callback's inner run", "the inner run has returned", "the task's run has returned", "after the task",
        ]
        #expect(try play("nested", engine) == expected)
    }

    @Test(arguments: Engine.allCases)
    func `hold the loop if they are begun on it, and may outlive it`(engine: Engine) throws {
        let played = try play("held", engine)
        #expect(played == ["held the loop", "run has returned", "the loop has gone", "cancelled: true"])
    }

    @Test(arguments: Engine.allCases)
    func `are not a child's of fork`(engine: Engine) throws {
        #expect(try play("forked", engine) == ["the child: 7", "in the parent"])
    }

    @Test(arguments: Engine.allCases)
    func `are found by whichever loop of the thread runs next`(engine: Engine) throws {
        #expect(try play("turns", engine) == (0..<6).map { "task \($0)" })
    }

    @Test(arguments: Engine.allCases)
    func `of one go write together`(engine: Engine) throws {
        let child = try start("MainQueue", engine, "batch")
        let client = try PlainClient(port: try port(of: child))
        try client.send("?")
        _ = try client.receive(exactly: 16_000)
        #expect((1...2).contains(try receivedDataSegments(client.descriptor)), "each send is at least one segment")
        client.close()
        #expect(try child.waitForExit() == .exited(0))
    }

    private func start(_ program: String, _ engine: Engine, _ arguments: String...) throws -> ChildProcess {
        try ChildProcess(
            ChildProcess.pathOfBuiltProduct(program), [engine.rawValue] + arguments,
            environment: ["SWIFT_BACKTRACE": "enable=no"])
    }

    private func port(of child: ChildProcess) throws -> UInt16 {
        let line = try child.waitForLine(containing: "Listening on port ", timeLimit: .seconds(30))
        return try #require(UInt16(line.split(separator: " ").last ?? ""))
    }

    /// What a scenario of the program `MainQueue` prints.
    private func play(_ scenario: String, _ engine: Engine) throws -> [String] {
        let child = try start("MainQueue", engine, scenario)
        #expect(try child.waitForExit(timeLimit: .seconds(300)) == .exited(0))
        #expect(child.standardErrorText == "")
        return child.standardOutputText.split(separator: "\n").map(String.init)
    }
}
