import Glibc

/// A value that several threads share, and a way to wait until it is as one of them wants it.
///
/// `@unchecked Sendable`, since the compiler cannot see that the mutex guards `value`: nothing outside
/// `withLock` and `wait` touches it.
final class Monitor<Value: Sendable>: @unchecked Sendable {
    private var value: Value
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init(_ value: Value) {
        self.value = value
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // The default is CLOCK_REALTIME: a clock that someone sets would stretch or cut every time limit.
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` alone on the value, then wakes everyone who waits for it to change.
    func withLock<Answer>(_ body: (inout Value) throws -> Answer) rethrows -> Answer {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return try body(&value)
    }

    /// Waits until `answer` gives something, however long that takes, and gives that.
    func wait<Answer>(for answer: (inout Value) throws -> Answer?) rethrows -> Answer {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let answer = try answer(&value) { return answer }
            pthread_cond_wait(condition, mutex)
        }
    }

    /// Waits until `answer` gives something, and gives that; `nil` if the deadline passes first.
    func wait<Answer>(
        until deadline: Deadline, for answer: (inout Value) throws -> Answer?
    ) rethrows -> Answer? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var time = deadline.time
        while true {
            if let answer = try answer(&value) { return answer }
            if deadline.hasPassed { return nil }
            pthread_cond_timedwait(condition, mutex, &time)
        }
    }
}
