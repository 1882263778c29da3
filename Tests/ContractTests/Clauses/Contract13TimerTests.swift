import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 13: timers` {
    @Test(arguments: Engine.allCases)
    func `none fires early, by CLOCK_MONOTONIC`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var early: [Duration] = []
        var fired = 0
        func set(_ delay: Duration) {
            let start = monotonicTime()
            loop.schedule(after: delay) { _ in
                fired += 1
                let passed = monotonicTime() - start
                if passed < delay { early.append(delay) }
            }
        }
        for microseconds in stride(from: 1, through: 30_000, by: 333) { set(.microseconds(microseconds)) }
        // After long callbacks the time that the turn has cached is old.
        for step in 0..<10 {
            loop.schedule(after: .milliseconds(step)) { _ in
                compute(for: .milliseconds(3))
                for delay in [1, 2, 5] { set(.milliseconds(delay)) }
                compute(for: .microseconds(700))
                set(.nanoseconds(1_000_001))
            }
        }
        let late = loop.schedule(after: .seconds(60)) { _ in fired += 1 }
        let start = monotonicTime()
        late.reschedule(after: .milliseconds(20))
        try loop.run()
        #expect(monotonicTime() - start >= .milliseconds(20))
        #expect(fired == 91 + 40 + 1)
        #expect(early == [])
    }

    @Test(arguments: Engine.allCases, [0, 1, 20])
    func `equal deadlines fire in the order of scheduling`(engine: Engine, milliseconds: Int) throws {
        let loop = try EventLoop(engine: engine)
        var order: [Int] = []
        for index in 0..<200 { loop.schedule(after: .milliseconds(milliseconds)) { _ in order.append(index) } }
        // What is rescheduled goes to the end, what is cancelled is missing.
        let moved = loop.schedule(after: .milliseconds(milliseconds)) { _ in order.append(201) }
        let gone = loop.schedule(after: .milliseconds(milliseconds)) { _ in order.append(-1) }
        loop.schedule(after: .milliseconds(milliseconds)) { _ in order.append(200) }
        moved.reschedule(after: .milliseconds(milliseconds))
        gone.cancel()
        try loop.run()
        #expect(order == Array(0...201))
    }

    @Test(arguments: Engine.allCases)
    func `a zero delay fires in the next turn, never in this one`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var events: [String] = []
        loop.schedule(after: .zero) { _ in
            events.append("first")
            loop.schedule(after: .zero) { _ in events.append("next turn") }
        }
        loop.schedule(after: .zero) { _ in events.append("second") }
        #expect(events == [])
        try loop.run(.noWait)
        #expect(events == ["first", "second"])
        try loop.run(.noWait)
        #expect(events == ["first", "second", "next turn"])
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `a zero delay set by another timer waits for the next turn too`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var events: [String] = []
        for name in ["a", "b"] {
            loop.schedule(after: .milliseconds(1)) { _ in
                events.append(name)
                loop.schedule(after: .zero) { _ in events.append("zero of \(name)") }
            }
        }
        compute(for: .milliseconds(3))
        try loop.run()
        #expect(events == ["a", "b", "zero of a", "zero of b"])
    }

    @Test(arguments: Engine.allCases)
    func `a timer that arms itself with zero for ever starves nobody`(engine: Engine) throws {
        let stage = try Stage(engine, serve: echo)
        let counter = TurnCounter(stage.loop)
        var ticks = 0
        stage.loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { timer in
            ticks += 1
            if ticks == 5 { timer.cancel() }
        }
        stage.mayEnd = { ticks == 5 }
        try stage.run { port in
            let client = try PlainClient(port: port)
            for round in 0..<100 {
                try client.send("round \(round % 10)")
                let back = try client.receive(exactly: 7)
                #expect(back == Array("round \(round % 10)".utf8))
            }
            client.close()
        }
        counter.stop()
        #expect(counter.turns > 100)
    }

    @Test(arguments: Engine.allCases, [0, 5])
    func `any timer may be cancelled from any timer's callback`(engine: Engine, milliseconds: Int) throws {
        let loop = try EventLoop(engine: engine)
        var timers: [EventLoop.Timer] = []
        var fired: [Int] = []
        for index in 0..<10 {
            timers.append(
                loop.schedule(after: .milliseconds(milliseconds)) { timer in
                    fired.append(index)
                    #expect(timer === timers[index])
                    // Those that are due in this very turn, itself, and one that has fired.
                    timers[(index + 1) % 10].cancel()
                    timers[index].cancel()
                    timers[0].cancel()
                })
        }
        compute(for: .milliseconds(milliseconds + 2))
        try loop.run()
        #expect(fired == [0, 2, 4, 6, 8])
        #expect(timers.allSatisfy { !$0.isArmed })
        // Each of them holds all of them.
        timers = []
    }

    @Test(arguments: Engine.allCases)
    func `a timer may be cancelled from a connection's callbacks`(engine: Engine) throws {
        var fired = 0
        var timer: EventLoop.Timer?
        let stage = try Stage(engine) { connection in
            connection.onData = { _, _ in timer?.cancel() }
        }
        timer = stage.loop.schedule(after: .seconds(5)) { _ in fired += 1 }
        let client = try PlainClient(port: stage.port)
        try client.send("x")
        try stage.run(until: { timer?.isArmed == false })
        #expect(fired == 0)
    }

    @Test(arguments: Engine.allCases)
    func `a repeating timer keeps its step and skips what it missed`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let start = monotonicTime()
        var times: [Duration] = []
        loop.schedule(after: .milliseconds(5), repeating: .milliseconds(10)) { timer in
            times.append(monotonicTime() - start)
            if times.count == 3 { compute(for: .milliseconds(45)) }
            if times.count == 8 { timer.cancel() }
        }
        try loop.run()
        #expect(times.count == 8)
        for (index, time) in times.enumerated() {
            #expect(time >= .milliseconds(5 + 10 * index), "the timer was early the \(index + 1)th time")
        }
        // Four steps passed during the third callback: without skipping, the fourth to seventh would come at once.
        #expect(times[7] >= .milliseconds(5 + 10 * 11))
    }

    @Test(arguments: Engine.allCases)
    func `a repeating timer with a first delay of zero`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let start = monotonicTime()
        var times: [Duration] = []
        loop.schedule(after: .zero, repeating: .milliseconds(5)) { timer in
            times.append(monotonicTime() - start)
            if times.count == 4 { timer.cancel() }
        }
        try loop.run()
        // Its step counts from the moment of scheduling, in whole milliseconds of the clock.
        #expect(times.count == 4 && times[3] >= .milliseconds(14))
    }

    @Test(arguments: Engine.allCases)
    func `reschedule moves a deadline either way and arms a timer at rest`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var order: [String] = []
        let sooner = loop.schedule(after: .seconds(30)) { _ in order.append("sooner") }
        let later = loop.schedule(after: .milliseconds(1)) { _ in order.append("later") }
        var rounds = 0
        let again = loop.schedule(after: .milliseconds(1)) { timer in
            rounds += 1
            #expect(!timer.isArmed)
            if rounds < 3 { timer.reschedule(after: .zero) }
        }
        sooner.reschedule(after: .milliseconds(2))
        later.reschedule(after: .milliseconds(30))
        try loop.run()
        #expect(order == ["sooner", "later"])
        #expect(rounds == 3)
        again.reschedule(after: .milliseconds(1))
        #expect(again.isArmed)
        try loop.run()
        #expect(rounds == 4)
        #expect(!again.isArmed)
    }

    @Test(arguments: Engine.allCases)
    func `a delay for ever is no overflow`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var fired: [String] = []
        let delays: [Duration] = [
            .seconds(Int64.max), .seconds(Int64.max / 1_000), .seconds(3_200_000_000), .seconds(100_000_000),
        ]
        let timers = delays.map { delay in loop.schedule(after: delay) { _ in fired.append("\(delay)") } }
        loop.schedule(after: .zero, repeating: .seconds(Int64.max)) { _ in fired.append("repeating") }
        loop.schedule(after: .milliseconds(5)) { _ in
            fired.append("the short one")
            loop.stop()
        }
        try loop.run()
        #expect(fired == ["repeating", "the short one"])
        #expect(timers.allSatisfy { $0.isArmed })
        #expect(loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `a timer without a reference does not keep the loop`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var fired: [String] = []
        let background = loop.schedule(after: .seconds(60), repeating: .seconds(60)) { _ in fired.append("background") }
        background.unref()
        #expect(!background.isReferenced && background.isArmed)
        #expect(!loop.isAlive)
        try loop.run()
        // Beside something that does, it fires like any other.
        background.reschedule(after: .milliseconds(1))
        loop.schedule(after: .milliseconds(10)) { _ in fired.append("foreground") }
        try loop.run()
        #expect(fired == ["background", "foreground"])
        background.ref()
        #expect(loop.isAlive)
        background.cancel()
        try loop.run()
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `a timer that arms itself with zero, without a reference, does not keep the loop`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var turns = 0
        let idle = loop.schedule(after: .zero) { timer in
            turns += 1
            timer.reschedule(after: .zero)
            // So that a loop which it does keep is seen and not waited for.
            if turns == 1_000_000 { loop.stop() }
        }
        idle.unref()
        loop.schedule(after: .milliseconds(5)) { _ in }
        try loop.run()
        #expect(turns < 1_000_000)
        idle.cancel()
    }
}
