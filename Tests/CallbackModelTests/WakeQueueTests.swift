import Glibc
import Synchronization
import TestSupport
import Testing

@testable import CallbackModel

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `Wake queue` {
    private final class Counts: Sendable {
        let wakes = Atomic(0)
        let refusals = Atomic(0)
    }

    private final class Mark: Sendable {
        private let value = Atomic(false)

        var isSet: Bool { value.load(ordering: .acquiring) }

        func set() { value.store(true, ordering: .releasing) }

        /// Whether it is set within ten seconds.
        func wait() -> Bool {
            let deadline = ContinuousClock.now + .seconds(10)
            while !isSet, ContinuousClock.now < deadline { sched_yield() }
            return isSet
        }
    }

    @Test func `a batch wakes its loop once, and keeps its order`() {
        let counts = Counts()
        let queue = WakeQueue { counts.wakes.add(1, ordering: .relaxed) }
        let order = Mutex<[Int]>([])
        for round in 1...3 {
            #expect(queue.isEmpty)
            order.withLock { $0 = [] }
            for number in 0..<100 { #expect(queue.append { order.withLock { $0.append(number) } }) }
            #expect(counts.wakes.load(ordering: .relaxed) == round)
            #expect(!queue.isEmpty)
            var batch = queue.removeAll()
            while let body = batch.next() { body() }
            #expect(order.withLock { $0 } == Array(0..<100))
        }
        #expect(queue.removeAll().isEmpty)
    }

    @Test func `after close nothing is taken, and nobody is woken`() {
        let counts = Counts()
        let queue = WakeQueue { counts.wakes.add(1, ordering: .relaxed) }
        queue.close()
        #expect(!queue.append {})
        #expect(queue.isEmpty)
        #expect(queue.removeAll().isEmpty)
        queue.close()
        #expect(counts.wakes.load(ordering: .relaxed) == 0)
    }

    /// The first thread is stopped just where it wakes the loop.
    @Test func `a thread that is stopped as it wakes the loop holds up no other`() throws {
        let (isWaking, mayGo) = (Mark(), Mark())
        let queue = WakeQueue {
            isWaking.set()
            #expect(mayGo.wait())
        }
        let stopped = onThread { queue.append {} }
        #expect(isWaking.wait())
        let others = (0..<4).map { _ in onThread { (0..<100).allSatisfy { _ in queue.append {} } } }
        for other in others { #expect(try other.value()) }
        mayGo.set()
        #expect(try stopped.value())
        queue.close()
    }

    @Test func `close waits for a thread that wakes the loop`() throws {
        let (isWaking, isClosed) = (Mark(), Mark())
        let box = Mutex<WakeQueue?>(nil)
        let queue = WakeQueue {
            isWaking.set()
            // Until it is refused, the other thread has not come to the place where it waits.
            while box.withLock({ $0 })?.append({}) ?? false { sched_yield() }
            for _ in 0..<1_000 { sched_yield() }
            #expect(!isClosed.isSet, "what `wake` needs is gone")
        }
        box.withLock { $0 = queue }
        let waking = onThread { queue.append {} }
        #expect(isWaking.wait())
        queue.close()
        isClosed.set()
        #expect(try waking.value())
        box.withLock { $0 = nil }
    }

    @Test func `threads that hammer a queue find it closed, and each body is let go once`() throws {
        final class Token: Sendable {
            let counts: Counts
            init(_ counts: Counts) { self.counts = counts }
            deinit { counts.refusals.add(1, ordering: .relaxed) }
        }
        let (threadCount, counts) = (4, Counts())
        let queue = WakeQueue { counts.wakes.add(1, ordering: .relaxed) }
        let threads = (0..<threadCount).map { _ in
            onThread {
                var made = 0
                while true {
                    let token = Token(counts)
                    made += 1
                    // Bounded, if the other side is slow to close.
                    guard made < 1_000_000, queue.append({ _ = token }) else { return made }
                }
            }
        }
        // Threads that have given all before that will wake it no more.
        while counts.wakes.load(ordering: .relaxed) < 100, threads.contains(where: { !$0.isFinished }) {
            var batch = queue.removeAll()
            while let body = batch.next() { body() }
        }
        queue.close()
        let made = try threads.reduce(0) { try $0 + $1.value() }
        #expect(counts.refusals.load(ordering: .relaxed) == made)
    }
}
