internal import Glibc
internal import Synchronization

/// Runs blocking functions on threads of its own, at most `width` at a time, in the order in which they were added.
///
/// A thread is made when there is work for it, and ends when nothing waits. A loop that gives no work has no thread, so
/// its system calls stay as cheap as those of a process with one thread.
final class ThreadPool: Sendable {
    typealias Body = @Sendable () -> Void

    private struct State {
        var waiting = WaitingWork()
        /// The numbers of the works that have ended, until `removeFinished`.
        var finished: [UInt64] = []
        /// Those that will detach themselves as they end.
        var threads: Set<pthread_t> = []
        var works: UInt64 = 0
    }

    private let state = Mutex(State())
    private let width: Int
    /// Tells the loop that something has ended. It outlives the loop, as the threads may.
    private let ring: Body

    init(width: Int, ring: @escaping Body) {
        self.width = width
        self.ring = ring
    }

    /// Gives `body` to a thread, and returns its number. Throws pthread_create's error when there is no thread and none
    /// can be made.
    func add(_ body: @escaping Body) throws(IOError) -> UInt64 {
        let (id, error) = state.withLock { state -> (UInt64, IOError?) in
            state.works += 1
            state.waiting.append(state.works, body)
            guard state.threads.count < width else { return (state.works, nil) }
            do throws(IOError) {
                // Inside the lock: the thread cannot end before it is in the set.
                state.threads.insert(try makeThread { [self] in workOff() })
            } catch {
                // Another thread will do it, if there is one.
                if !state.threads.isEmpty { return (state.works, nil) }
                _ = state.waiting.remove(state.works)
                return (state.works, error)
            }
            return (state.works, nil)
        }
        if let error { throw error }
        return id
    }

    /// Removes what no thread has begun; otherwise returns false.
    func withdraw(_ id: UInt64) -> Bool {
        let body = state.withLock { $0.waiting.remove(id) }
        // Let go of outside the lock: what it captured may ask for something as it goes.
        return withExtendedLifetime(body) { body != nil }
    }

    /// The numbers of what has ended since this was last called.
    func removeFinished() -> [UInt64] {
        state.withLock { state in
            let finished = state.finished
            state.finished = []
            return finished
        }
    }

    /// Drops what no thread has begun. With `waits`, returns when the rest has ended: nothing can stop it.
    func close(waits: Bool) {
        dropWaiting()
        let threads = state.withLock { state in
            let threads = state.threads
            state.threads = []
            return threads
        }
        for thread in threads {
            if waits { pthread_join(thread, nil) } else { pthread_detach(thread) }
        }
    }

    private func dropWaiting() {
        let waiting = state.withLock { $0.waiting.removeAll() }
        // Outside the lock: what they captured may do anything in its `deinit`.
        withExtendedLifetime(waiting) {}
    }

    /// A thread's whole life.
    private func workOff() {
        while let id = workOffOne() {
            state.withLock { $0.finished.append(id) }
            ring()
        }
    }

    /// A function of its own, so that the thread has let go of what the work captured before the loop is told.
    private func workOffOne() -> UInt64? {
        guard let work = next() else { return nil }
        work.body()
        return work.id
    }

    private func next() -> (id: UInt64, body: Body)? {
        state.withLock { state in
            if let work = state.waiting.popFirst() { return work }
            // Not in the set any more if `close` was called, which has joined or detached it.
            if state.threads.remove(pthread_self()) != nil { pthread_detach(pthread_self()) }
            return nil
        }
    }
}

/// What waits for a thread: first in, first out, and each can be removed.
struct WaitingWork {
    /// In order; those that are not in `bodies` any more were removed.
    private var ids: [UInt64] = []
    /// How many at the front are over; removed when they are half, so that each costs constant time.
    private var taken = 0
    private var bodies: [UInt64: ThreadPool.Body] = [:]

    mutating func append(_ id: UInt64, _ body: @escaping ThreadPool.Body) {
        ids.append(id)
        bodies[id] = body
    }

    mutating func popFirst() -> (id: UInt64, body: ThreadPool.Body)? {
        while taken < ids.count {
            let id = ids[taken]
            taken += 1
            if taken * 2 > ids.count {
                ids.removeFirst(taken)
                taken = 0
            }
            if let body = bodies.removeValue(forKey: id) { return (id, body) }
        }
        return nil
    }

    mutating func remove(_ id: UInt64) -> ThreadPool.Body? {
        let body = bodies.removeValue(forKey: id)
        // Otherwise what comes and goes while all threads hang would be remembered for ever.
        if ids.count - taken > 2 * bodies.count + 16 {
            ids = ids.dropFirst(taken).filter { bodies[$0] != nil }
            taken = 0
        }
        return body
    }

    mutating func removeAll() -> [UInt64: ThreadPool.Body] {
        let left = bodies
        self = WaitingWork()
        return left
    }
}
