import CallbackServer
import TestSupport
import Testing

private actor Elsewhere {
    private var count = 0

    func next() -> Int {
        count += 1
        return count
    }
}

/// Resumes when it is let go.
private final class Resuming {
    private let continuation: CheckedContinuation<Void, Never>

    init(_ continuation: CheckedContinuation<Void, Never>) { self.continuation = continuation }

    deinit { continuation.resume() }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A task on a loop` {
    @Test(arguments: Engine.allCases)
    func `is on the loop behind every await, and holds it until it has ended`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let elsewhere = Elsewhere()
        var notes: [String] = []
        func look(_ what: String) { notes.append("\(what): \(loop.isOnLoop)") }
        loop.task {
            look("begins")
            _ = await elsewhere.next()
            look("an actor")
            try? await Task.sleep(for: .milliseconds(5))
            look("a sleep")
            await withCheckedContinuation { continuation in
                Task.detached { continuation.resume() }
            }
            look("a continuation")
            await Task.yield()
            look("a yield")
        }
        #expect(notes == [] && loop.isAlive)
        try loop.run()
        let all = ["begins", "an actor", "a sleep", "a continuation", "a yield"]
        #expect(notes == all.map { "\($0): true" })
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `never runs inside a callback`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var notes: [String] = []
        loop.schedule(after: .zero) { _ in
            loop.task { notes.append("task") }
            notes.append("callback")
        }
        try loop.run()
        #expect(notes == ["callback", "task"])
    }

    @Test(arguments: Engine.allCases)
    func `answers for a connection`(engine: Engine) throws {
        let elsewhere = Elsewhere()
        let stage = try Stage(engine) { connection in
            connection.onData = { connection, _ in
                connection.task { connection.write("\(await elsewhere.next())\n") }
            }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            for number in 1...100 {
                try client.send("?")
                #expect(try client.receiveLine() == "\(number)")
            }
        }
    }

    @Test(arguments: Engine.allCases)
    func `of a connection is cancelled when onClose has run`(engine: Engine) throws {
        let stage = try StepStage(engine)
        let (connection, peer) = try stage.connect()
        var notes: [String] = []
        for _ in 0..<2 {
            connection.task {
                try? await Task.sleep(for: .seconds(3_600))
                notes.append("task: \(Task.isCancelled), \(connection.write("late"))")
            }
        }
        connection.task { notes.append("a short one: \(Task.isCancelled)") }
        // Of another connection, which stays open.
        let (other, _) = try stage.connect()
        let kept = other.task { try? await Task.sleep(for: .seconds(3_600)) }
        connection.onClose = { _, _ in notes.append("onClose") }
        try stage.settle()
        peer.close()
        try stage.loop.run(until: { notes.count == 4 })
        #expect(notes == ["a short one: false", "onClose", "task: true, closed", "task: true, closed"])
        #expect(!kept.isCancelled)
        kept.cancel()
    }

    @Test(arguments: Engine.allCases)
    func `of a closed connection does nothing`(engine: Engine) throws {
        let stage = try StepStage(engine)
        let (connection, _) = try stage.connect()
        connection.reset()
        try stage.settle()
        stage.listener.close()
        try stage.settle()
        var hasRun = false
        connection.task { hasRun = true }
        #expect(!stage.loop.isAlive)
        try stage.settle()
        #expect(!hasRun)
    }

    @Test(arguments: Engine.allCases)
    func `is cancelled by whoever has it`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var isCancelled = false
        let task = loop.task {
            try? await Task.sleep(for: .seconds(3_600))
            isCancelled = Task.isCancelled
        }
        loop.schedule(after: .milliseconds(5)) { _ in task.cancel() }
        try loop.run()
        #expect(isCancelled)
    }

    @Test(arguments: Engine.allCases)
    func `ends before a loop that is let go has gone`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        let elsewhere = Elsewhere()
        var notes: [String] = []
        for number in 0..<3 {
            loop?.task {
                notes.append("begins \(number)")
                try? await Task.sleep(for: .seconds(3_600))
                // Another thread resumes it, while the loop waits.
                for _ in 0..<10 { _ = await elsewhere.next() }
                notes.append("ends \(number): \(Task.isCancelled)")
            }
        }
        try loop?.run(.noWait)
        loop?.task { notes.append("never seen by a run: \(Task.isCancelled)") }
        #expect(notes.count == 3)
        loop = nil
        #expect(
            Set(notes.dropFirst(3)) == [
                "ends 0: true", "ends 1: true", "ends 2: true", "never seen by a run: true",
            ])
    }

    @Test(arguments: Engine.allCases)
    func `that waits for another thread's work ends when that is let go with the loop`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        var hasEnded = false
        var waiting: CheckedContinuation<Void, Never>?
        loop?.task {
            await withCheckedContinuation { waiting = $0 }
            hasEnded = true
        }
        try loop?.run(.noWait)
        var resuming: Resuming? = Resuming(try #require(waiting))
        try loop?.offload({}) { [resuming] _ in withExtendedLifetime(resuming) {} }
        resuming = nil
        #expect(!hasEnded)
        loop = nil
        #expect(hasEnded)
    }

    /// What nobody resumes is never given back.
    @Test(.enabled(if: !isSanitized), arguments: Engine.allCases)
    func `that nobody resumes does not keep a loop from going`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        let connection = try #require(try loop?.connect(to: .unix(abstract: "nobody listens to this name")))
        loop?.task {
            // The callback is released without a call; so is what it was to resume.
            await withUnsafeContinuation { continuation in connection.onOpen = { _ in continuation.resume() } }
        }
        try loop?.run(.noWait)
        weak let gone = loop
        loop = nil
        #expect(gone == nil)
    }

    @Test(arguments: Engine.allCases)
    func `that does not end is told when its loop is let go`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            var loop: EventLoop? = try EventLoop(engine: engine)
            loop?.task { while true { await Task.yield() } }
            try loop?.run(.noWait)
            loop = nil
        }
        expectSentence(result, "EventLoop: a task on the executor of a loop that has been let go does not end")
    }
}
