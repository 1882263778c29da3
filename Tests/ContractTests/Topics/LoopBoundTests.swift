import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

/// What becomes of the values of a test.
private final class Tally: Sendable {
    let made = Count()
    let released = Count()
    /// Opened or released on another thread than the loop's.
    let misplaced = Count()
}

/// A value that is not `Sendable`, of the thread that has made it.
private final class Owned {
    private let thread = pthread_self()
    private let tally: Tally
    private(set) var touched = 0

    init(_ tally: Tally) {
        self.tally = tally
        tally.made.raise()
    }

    func touch() {
        check()
        touched += 1
    }

    private func check() { if pthread_self() != thread { tally.misplaced.raise() } }

    deinit {
        check()
        tally.released.raise()
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A value bound to a loop` {
    @Test(arguments: Engine.allCases)
    func `is opened on the loop by any thread`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let tally = Tally()
        let value = Owned(tally)
        let bound = LoopBound(value, on: loop)
        let (threads, each, answers) = (8, 500, Count())
        for _ in 0..<threads {
            Task.detached {
                for number in 0..<each {
                    if number.isMultiple(of: 2) {
                        bound.execute { $0.touch() }
                    } else {
                        let touched = try await bound.run { value in
                            value.touch()
                            return value.touched
                        }
                        if touched > 0 { answers.raise() }
                    }
                }
            }
        }
        try loop.run(until: { value.touched == threads * each && answers.value == threads * each / 2 })
        #expect(tally.misplaced.value == 0)
    }

    @Test(arguments: Engine.allCases)
    func `gives an answer or its error, also on the loop itself`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let bound = LoopBound([1, 2, 3], on: loop)
        var notes: [String] = []
        loop.task {
            do {
                notes.append("\(try await bound.run { $0.count })")
                try await bound.run { _ in throw IOError(call: "test", errno: EPERM) }
            } catch {
                notes.append("\((error as? IOError)?.name ?? "another error"), \(loop.isOnLoop)")
            }
        }
        try loop.run()
        #expect(notes == ["3", "EPERM, true"])
    }

    @Test(arguments: Engine.allCases)
    func `is released on the loop when its handle is let go elsewhere`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let tally = Tally()
        var handle: LoopBound<Owned>? = LoopBound(Owned(tally), on: loop)
        let thread = onThread { [handle] in
            handle?.execute { $0.touch() }
            _ = handle
        }
        handle = nil
        try thread.value()
        #expect(tally.released.value == 0, "only the loop may")
        try loop.run(until: { tally.released.value == 1 })
        #expect(tally.misplaced.value == 0)
    }

    @Test(arguments: Engine.allCases)
    func `is released with its loop, and then opens no more`(engine: Engine) async throws {
        let tally = Tally()
        var loop: EventLoop? = try EventLoop(engine: engine)
        let bound = LoopBound(Owned(tally), on: try #require(loop))
        #expect(bound.execute { $0.touch() })
        // Accepted, and let go before it has run.
        let waiting = Task.detached { try await bound.run { $0.touched } }
        loop = nil
        #expect(tally.released.value == 1 && tally.misplaced.value == 0)
        #expect(!bound.execute { $0.touch() })
        for attempt in [waiting, Task.detached { try await bound.run { $0.touched } }] {
            let result = await attempt.result
            #expect(throws: IOError.self) { try result.get() }
            guard case .failure(let error as IOError) = result else { continue }
            #expect(error.name == "ECANCELED" && error.call == "LoopBound.run", "\(error)")
        }
    }
}

/// Loops that die at a moment of a seed's choice under eight threads that name their values.
@Suite(.timeLimit(.minutes(20)), .onOwnThread, .heavy)
struct `Loops that die under eight threads` {
    @Test(arguments: Engine.allCases)
    func `let go of every value on its thread, and leave no caller without an answer`(engine: Engine) throws {
        let tally = Tally()
        let (asked, answered) = (Count(), Count())
        for seed in 0..<UInt64(50) {
            var random = SplitMix64(seed: seed)
            var loop: EventLoop? = try EventLoop(engine: engine)
            var handles: [LoopBound<Owned>] = []
            for _ in 0..<20 { handles.append(LoopBound(Owned(tally), on: try #require(loop))) }
            let threads = (0..<8).map { [handles] number in
                onThread { name(handles, seed: seed * 8 + UInt64(number), asked, answered) }
            }
            if random.next() % 2 == 0 { handles = [] }
            for _ in 0..<random.next() % 40 { try loop?.run(.noWait) }
            loop = nil
            #expect(handles.allSatisfy { !$0.execute { $0.touch() } })
            handles = []
            for thread in threads { try thread.value() }
        }
        waitUntil("every caller has its answer") { answered.value == asked.value }
        #expect(tally.made.value == 1_000 && tally.released.value == 1_000)
        #expect(tally.misplaced.value == 0)
        #expect(asked.value > 0)
    }
}

/// What one thread does with the handles, until it has none.
private func name(_ handles: [LoopBound<Owned>], seed: UInt64, _ asked: Count, _ answered: Count) {
    var random = SplitMix64(seed: seed)
    var handles = handles
    while !handles.isEmpty {
        let index = Int(random.next() % UInt64(handles.count))
        let handle = handles[index]
        switch random.next() % 4 {
        case 0: handles.remove(at: index)
        case 1:
            asked.raise()
            Task.detached {
                _ = try? await handle.run { $0.touch() }
                answered.raise()
            }
        default: handle.execute { $0.touch() }
        }
    }
}
