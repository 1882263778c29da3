@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets
internal import Synchronization

/// Runs blocking functions on threads of its own, and brings the news of their end back to the loop.
@safe final class WorkerPool {
    private let queue: WorkQueue
    private let counter: Counter
    private var thens: [UInt64: () -> Void] = [:]
    private var works: UInt64 = 0

    init(counter: Counter) {
        self.counter = counter
        queue = WorkQueue(counter: counter)
    }

    /// Whether something is under way.
    var isBusy: Bool { !thens.isEmpty }

    func run(_ work: @escaping @Sendable () -> Void, _ then: @escaping () -> Void) throws(IOError) {
        works += 1
        try queue.add(WorkQueue.Work(id: works, body: work))
        thens[works] = then
    }

    /// The loop calls this when the counter was raised.
    func becameReady() {
        for id in queue.takeFinished() { thens.removeValue(forKey: id)?() }
    }

    /// Waits for work that a thread has begun: nothing can stop it.
    func close() {
        thens = [:]
        queue.finish()
    }
}

/// What the loop and the threads share.
private final class WorkQueue: Sendable {
    struct Work: Sendable {
        let id: UInt64
        let body: @Sendable () -> Void
    }

    private struct State {
        var waiting: [Work] = []
        var finished: [UInt64] = []
        var threads = 0
    }

    /// As many as libuv's pool has: blocking work that hangs stops only what is behind all four.
    private static let mostThreads = 4

    private let state = Mutex(State())
    private let counter: Counter

    init(counter: Counter) {
        self.counter = counter
    }

    func add(_ work: Work) throws(IOError) {
        let needsThread = state.withLock { state in
            state.waiting.append(work)
            guard state.threads < Self.mostThreads else { return false }
            state.threads += 1
            return true
        }
        guard needsThread else { return }
        let status = startThread()
        guard status != 0 else { return }
        let isLost = state.withLock { state in
            state.threads -= 1
            // Another thread may still come to it; without one, nobody would.
            guard state.threads == 0 else { return false }
            state.waiting.removeAll { $0.id == work.id }
            return true
        }
        if isLost { throw IOError(call: "pthread_create", errno: status) }
    }

    private func startThread() -> Int32 {
        // Retain 1, released by the thread.
        let argument = unsafe Unmanaged.passRetained(self).toOpaque()
        var thread = pthread_t()
        let status = unsafe pthread_create(
            &thread, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                unsafe Unmanaged<WorkQueue>.fromOpaque(argument).takeRetainedValue().workOff()
                return nil
            }, argument)
        if status == 0 {
            pthread_detach(thread)
        } else {
            unsafe Unmanaged<WorkQueue>.fromOpaque(argument).release()
        }
        return status
    }

    /// A thread's whole life: it ends when nothing is left to be done.
    private func workOff() {
        while let work = next() {
            work.body()
            state.withLock { state in
                state.finished.append(work.id)
                counter.raise()
            }
        }
    }

    private func next() -> Work? {
        state.withLock { state in
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            state.threads -= 1
            // Inside the lock, as above: once `finish` has seen that no thread is left, the counter is closed.
            counter.raise()
            return nil
        }
    }

    func takeFinished() -> [UInt64] {
        state.withLock { state in
            let finished = state.finished
            state.finished = []
            return finished
        }
    }

    /// Drops what nobody has begun and waits until the threads have gone.
    func finish() {
        dropWaiting()
        while state.withLock({ $0.threads > 0 }) { counter.waitUntilRaised() }
    }

    private func dropWaiting() {
        let waiting = state.withLock { state in
            let waiting = state.waiting
            state.waiting = []
            return waiting
        }
        // Outside the lock: what they captured may do anything in its `deinit`.
        withExtendedLifetime(waiting) {}
    }
}
