import CallbackServer
import TestSupport
import Testing

/// An actor that lives on a loop.
private actor Resident: LoopActor {
    let loopExecutor: EventLoop.LoopExecutor
    private(set) var numbers: [Int] = []

    init(_ executor: EventLoop.LoopExecutor) { loopExecutor = executor }

    func note(_ number: Int) {
        loopExecutor.checkIsolated()
        numbers.append(number)
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The executor of a loop` {
    @Test(arguments: Engine.allCases)
    func `runs an actor on the loop, each caller's calls in order`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let resident = Resident(loop.executor)
        let (callers, each, done) = (8, 2_000, Count())
        for caller in 0..<callers {
            Task.detached {
                for number in 0..<each { await resident.note(caller * each + number) }
                done.raise()
            }
        }
        try loop.run(until: { done.value == callers }, timeLimit: .seconds(60))
        var numbers: [Int] = []
        loop.schedule(after: .zero) { _ in
            // Without a hop, since a callback is where the actor lives.
            numbers = resident.assumeIsolated { $0.numbers }
        }
        try loop.run()
        #expect(numbers.count == callers * each)
        for caller in 0..<callers {
            #expect(numbers.filter { $0 / each == caller }.map { $0 % each } == Array(0..<each))
        }
    }

    @Test(arguments: Engine.allCases)
    func `lets two actors of one loop talk without another thread`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (first, second) = (Resident(loop.executor), Resident(loop.executor))
        var (heard, elsewhere) = (0, 0)
        loop.task {
            for number in 0..<1_000 {
                await first.note(number)
                if !loop.isOnLoop { elsewhere += 1 }
                await second.note(number)
                if !loop.isOnLoop { elsewhere += 1 }
            }
            heard = await second.numbers.count
        }
        try loop.run()
        #expect(heard == 1_000 && elsewhere == 0)
    }

    @Test(arguments: Engine.allCases)
    func `knows its thread exactly`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let other = try EventLoop(engine: engine)
        var seen: [Bool] = []
        func look() { seen.append(loop.isOnLoop && loop.executor.isIsolatingCurrentContext() == true) }
        look()
        loop.schedule(after: .zero) { _ in
            look()
            let (executor, elsewhere) = (loop.executor, Count())
            let thread = onThread { if executor.isIsolatingCurrentContext() == true { elsewhere.raise() } }
            #expect((try? thread.value()) != nil && elsewhere.value == 0)
            #expect(!other.isOnLoop)
            other.schedule(after: .zero) { _ in
                #expect(other.isOnLoop)
                look()
            }
            do { try other.run() } catch { Issue.record(error) }
            #expect(!other.isOnLoop)
        }
        loop.waker.execute {}
        try loop.run()
        look()
        #expect(seen == [false, true, true, false])
    }

    @Test(arguments: Engine.allCases)
    func `traps in a call that is not on its thread`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            try EventLoop(engine: engine).executor.checkIsolated()
        }
        expectSentence(result, "EventLoop.executor: the caller is not on the thread that runs the loop")
    }

    @Test(arguments: Engine.allCases)
    func `keeps the loop running for a job, and runs what came before the run`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let resident = Resident(loop.executor)
        let done = Count()
        #expect(!loop.isAlive)
        for number in 0..<10 {
            Task(executorPreference: loop.taskExecutor) {
                await resident.note(number)
                done.raise()
            }
        }
        #expect(loop.isAlive && done.value == 0)
        try loop.run()
        #expect(done.value == 10)
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `does not starve the loop, nor does the loop starve it`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var (yields, turns, ticks) = (0, 0, 0)
        loop.task {
            while ticks < 20 {
                yields += 1
                await Task.yield()
            }
        }
        loop.schedule(after: .zero) { timer in
            turns += 1
            if ticks < 20 { timer.reschedule(after: .zero) }
        }
        loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { timer in
            ticks += 1
            if ticks == 20 { timer.cancel() }
        }
        try loop.run()
        #expect(yields >= turns / 2, "\(yields) yields in \(turns) turns")
    }

    @Test(arguments: Engine.allCases)
    func `sends together what jobs of one go write`(engine: Engine) throws {
        let stage = try Stage(engine) { connection in
            connection.onData = { connection, _ in
                for _ in 0..<500 { connection.task { connection.write([UInt8](repeating: 0x61, count: 16)) } }
            }
        }
        let segments = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            _ = try client.receive(exactly: 8_000)
            return try receivedDataSegments(client.descriptor)
        }
        #expect((1...2).contains(segments), "each send is at least one segment")
    }

    @Test(arguments: Engine.allCases)
    func `traps on a job that comes after the loop`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let resident = Resident(try EventLoop(engine: engine).executor)
            await resident.note(1)
        }
        expectSentence(result, "EventLoop.executor: a task or an actor goes on after its loop has been let go")
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A hold` {
    @Test(arguments: Engine.allCases)
    func `keeps a loop running that has nothing open`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let hold = loop.hold()
        var second: EventLoop.Hold? = loop.hold()
        #expect(loop.isAlive)
        var isOver = false
        let timer = loop.schedule(after: .milliseconds(20)) { _ in
            #expect(hold.isHeld)
            hold.release()
            hold.release()
            #expect(!hold.isHeld)
            loop.schedule(after: .milliseconds(20)) { _ in
                isOver = true
                // Letting go of it is enough.
                second = nil
            }.unref()
        }
        timer.unref()
        try loop.run()
        #expect(isOver && second == nil)
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `may outlive its loop`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        let hold = try #require(loop?.hold())
        loop = nil
        hold.release()
        #expect(!hold.isHeld)
    }
}
