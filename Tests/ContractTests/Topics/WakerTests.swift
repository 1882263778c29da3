import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Waker` {
    @Test(arguments: Engine.allCases)
    func `bodies of many threads run once, on the loop's thread, in each thread's order`(engine: Engine) throws {
        let (threadCount, perThread) = (8, 5_000)
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        let seen = Seen(threadCount)
        let threads = (0..<threadCount).map { thread in
            onThread {
                for number in 0..<perThread {
                    guard waker.execute({ seen.note(thread, number) }) else { throw Gone() }
                }
            }
        }
        try loop.run(until: { seen.total == threadCount * perThread }, timeLimit: .seconds(60))
        for thread in threads { try thread.value() }
        #expect(seen.faults == 0)
        #expect(seen.total == threadCount * perThread)
    }

    @Test(arguments: Engine.allCases)
    func `ten thousand wake-ups are not lost`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        let count = 10_000
        let doneCount = Count()
        // Each waits until the one before has run: the loop is asleep, or just about to be, each time.
        let thread = onThread {
            for number in 1...count {
                guard waker.execute({ doneCount.raise() }) else { throw Gone() }
                // Sometimes it waits, and sometimes it runs ahead.
                if number % 3 != 0 { continue }
                waitUntil("wake-up \(number)") { doneCount.value == number }
            }
        }
        try loop.run(until: { thread.isFinished && doneCount.value == count }, timeLimit: .seconds(60))
        try thread.value()
        #expect(doneCount.value == count)
    }

    @Test(arguments: Engine.allCases)
    func `a loop that sleeps is woken`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let loop = try EventLoop(engine: engine)
        // Never ready, and without a timer: the loop sleeps for ever.
        let hanging = try HangingPeer()
        let connection = try loop.connect(to: hanging.address, options: .with { $0.connection.timeouts.connect = nil })
        let waker = loop.waker
        let bodies = Count()
        let sent = Flag()
        let thread = onThread {
            sent.wait()
            for _ in 0..<10 { waker.execute { bodies.raise() } }
        }
        loop.schedule(after: .milliseconds(1)) { _ in sent.set() }
        while bodies.value < 10 { try loop.run(.once) }
        try thread.value()
        connection.reset()
        try loop.run()
        _ = server
    }

    @Test(arguments: Engine.allCases)
    func `what is asked before the loop runs is run, without anything else alive`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        #expect(!loop.isAlive)
        let order = Order()
        for number in 0..<100 { #expect(waker.execute { order.append(number) }) }
        #expect(loop.isAlive)
        #expect(order.numbers == [], "nothing runs inside execute")
        try loop.run()
        #expect(order.numbers == Array(0..<100))
        #expect(!loop.isAlive)
        // And again.
        waker.execute { order.append(100) }
        try loop.run()
        #expect(order.numbers.count == 101)
    }

    @Test(arguments: Engine.allCases, [EventLoop.RunMode.once, .noWait])
    func `one turn is enough`(engine: Engine, mode: EventLoop.RunMode) throws {
        let loop = try EventLoop(engine: engine)
        let order = Order()
        loop.waker.execute { order.append(1) }
        try loop.run(mode)
        #expect(order.numbers == [1])
    }

    @Test(arguments: Engine.allCases)
    func `a waker does not keep the loop running, but what it was asked for does`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        try loop.run()
        let order = Order()
        // The timer is the last thing alive, and what it asks for is still to come.
        loop.schedule(after: .milliseconds(1)) { _ in
            waker.execute {
                order.append(1)
                waker.execute { order.append(2) }
            }
        }
        try loop.run()
        #expect(order.numbers == [1, 2])
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `stop leaves what is still to come to the next run`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        let order = Order()
        loop.schedule(after: .milliseconds(1)) { _ in
            waker.execute { order.append(1) }
            loop.stop()
        }
        try loop.run()
        // In the turn under way or not: at the latest in the next run.
        try loop.run()
        #expect(order.numbers == [1])
    }

    @Test(arguments: Engine.allCases)
    func `a body that asks again does not keep others waiting`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        let rounds = Count()
        again(waker, rounds)
        var timerRan = false
        loop.schedule(after: .milliseconds(5)) { _ in
            timerRan = true
            loop.stop()
        }
        try loop.run()
        #expect(timerRan && rounds.value > 0)
    }

    @Test(arguments: Engine.allCases)
    func `bodies that wait in great number leave the timers their turn`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let waker = loop.waker
        let ran = Count()
        let order = Order()
        for number in 0..<20_000 {
            let isTaken = waker.execute {
                ran.raise()
                // Each thousandth, so that what is left over keeps its order, too.
                if number % 1_000 == 0 { order.append(number) }
            }
            #expect(isTaken)
        }
        var ranBefore = 0
        loop.schedule(after: .zero) { _ in ranBefore = ran.value }
        try loop.run(.noWait)
        #expect(ran.value > 0 && ran.value <= 2 * 1_024, "in one turn")
        #expect(loop.isAlive)
        // Nothing happens but what was asked for: a turn that slept would end by the test's time limit only.
        let distant = loop.schedule(after: .seconds(3_600)) { _ in }
        while ran.value < 20_000 { try loop.run(.once) }
        distant.cancel()
        #expect(ranBefore <= 4 * 1_024)
        #expect(ran.value == 20_000)
        try loop.run()
        #expect(order.numbers == Array(stride(from: 0, to: 20_000, by: 1_000)))
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `what is left over goes with its loop, and may ask for more as it goes`(engine: Engine) throws {
        let answered = Count()
        let ran = Count()
        var loop: EventLoop? = try EventLoop(engine: engine)
        if let waker = loop?.waker {
            for _ in 0..<5_000 {
                let asker = Asker(waker, answered)
                waker.execute {
                    _ = asker
                    ran.raise()
                }
            }
        }
        try loop?.run(.noWait)
        let (before, refusedBefore) = (ran.value, answered.value)
        #expect(before > 0 && before < 5_000)
        loop = nil
        #expect(ran.value == before)
        #expect(answered.value - refusedBefore == 5_000 - before, "each body that never ran was let go, and refused")
    }

    @Test(arguments: Engine.allCases)
    func `a body may use the loop's objects, and its writes leave together`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        let waker = loop.waker
        let box = Carried(connection)
        diary.reactions.open = { _ in
            waker.execute {
                for word in ["a", "b", "c"] { box.connection.write(word) }
                box.connection.end()
            }
        }
        #expect(try loop.run(diary, peer) == Array("abc".utf8))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `what a body captured is let go once it has run`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        weak var captured: Token?
        do {
            let token = Token()
            captured = token
            loop.waker.execute { _ = token }
        }
        #expect(captured != nil)
        try loop.run()
        #expect(captured == nil)
    }

    // MARK: The end of the loop

    @Test(arguments: Engine.allCases)
    func `after the loop is gone execute says so, and lets go of its body`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        let waker = try #require(loop?.waker)
        weak var waiting: Token?
        weak var late: Token?
        do {
            let token = Token()
            waiting = token
            #expect(waker.execute { Issue.record("run, though its loop has gone: \(token)") })
        }
        #expect(waiting != nil)
        loop = nil
        #expect(waiting == nil)
        do {
            let token = Token()
            late = token
            #expect(!waker.execute { Issue.record("run, though its loop has gone: \(token)") })
        }
        #expect(late == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a deinit may ask the waker whose loop goes`(engine: Engine) throws {
        let answered = Count()
        var loop: EventLoop? = try EventLoop(engine: engine)
        if let waker = loop?.waker {
            let asker = Asker(waker, answered)
            waker.execute { _ = asker }
        }
        loop = nil
        #expect(answered.value == 1)
    }

    @Test(arguments: Engine.allCases)
    func `a loop may go while other threads hammer its waker`(engine: Engine) throws {
        let mostAhead = 10_000
        for _ in 0..<20 {
            var loop: EventLoop? = try EventLoop(engine: engine)
            let waker = try #require(loop?.waker)
            let (ran, accepted, gone) = (Count(), Count(), Flag())
            let threads = (0..<4).map { _ in
                onThread {
                    let token = Token()
                    while true {
                        // Nothing else holds it up, and what waits takes memory.
                        while accepted.value - ran.value > mostAhead, !gone.isSet { sched_yield() }
                        let isAccepted = waker.execute {
                            _ = token
                            ran.raise()
                        }
                        guard isAccepted else { return }
                        accepted.raise()
                    }
                }
            }
            waitUntil("wake-up") { accepted.value > 100 }
            for _ in 0..<5 { try loop?.run(.noWait) }
            loop = nil
            gone.set()
            for thread in threads { try thread.value() }
            #expect(ran.value > 0 && ran.value <= accepted.value)
        }
    }
}

private struct Gone: Error {}

/// Asks a waker as it is let go, and counts the refusals.
private final class Asker: Sendable {
    private let waker: EventLoop.Waker
    private let refused: Count

    init(_ waker: EventLoop.Waker, _ refused: Count) {
        self.waker = waker
        self.refused = refused
    }

    deinit { if !waker.execute({}) { refused.raise() } }
}

private func again(_ waker: EventLoop.Waker, _ rounds: Count) {
    waker.execute {
        rounds.raise()
        again(waker, rounds)
    }
}

/// A connection that goes to the loop's own thread and back: `@Sendable` asks for more than is so here.
private struct Carried: Sendable {
    nonisolated let reference: UInt

    init(_ connection: Connection) { reference = UInt(bitPattern: Unmanaged.passUnretained(connection).toOpaque()) }

    var connection: Connection {
        Unmanaged<Connection>.fromOpaque(UnsafeRawPointer(bitPattern: reference)!).takeUnretainedValue()
    }
}

/// What many threads raise.
final class Count: Sendable {
    private let count = Atomic(0)

    var value: Int { count.load(ordering: .acquiring) }

    func raise() { count.add(1, ordering: .acquiringAndReleasing) }
}

/// Numbers in the order in which they came.
final class Order: Sendable {
    private let all = Mutex<[Int]>([])

    var numbers: [Int] { all.withLock { $0 } }

    func append(_ number: Int) { all.withLock { $0.append(number) } }
}

/// Whether the numbers of each thread come in order, once, and on the thread that made this.
private final class Seen: Sendable {
    private let next: Mutex<[Int]>
    private let counts = Mutex((total: 0, faults: 0))
    private let thread = UInt(pthread_self())

    init(_ threadCount: Int) { next = Mutex(Array(repeating: 0, count: threadCount)) }

    func note(_ thread: Int, _ number: Int) {
        let isNext = next.withLock { next in
            defer { next[thread] = number + 1 }
            return next[thread] == number
        }
        let isHere = UInt(pthread_self()) == self.thread
        counts.withLock { counts in
            counts.total += 1
            if !isNext || !isHere { counts.faults += 1 }
        }
    }

    var total: Int { counts.withLock { $0.total } }
    var faults: Int { counts.withLock { $0.faults } }
}
