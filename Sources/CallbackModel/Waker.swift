internal import Synchronization

extension EventLoop {
    /// The door for other threads: the only object of a loop that may cross them.
    ///
    /// It does not keep the loop running; what was asked for does, until it has run.
    public struct Waker: Sendable {
        let queue: WakeQueue

        /// Runs `body` on the loop: later, at most once, in the order of the calls of each thread. Any thread may
        /// call this, also from a callback of the loop, but no signal handler. It waits for no other thread.
        ///
        /// Returns whether the loop has taken `body`. True is no promise that it runs: a loop that ends first, or is
        /// never run again, lets go of what waits without a call. Whoever needs to know lets `body` itself answer.
        /// Returns false, and lets go of `body`, once the loop is gone.
        ///
        /// What waits has no limit, and at most 1,024 bodies run in one go, then sockets and timers have their turn.
        /// A thread that asks faster than the loop runs has to wait for answers, or memory grows.
        @discardableResult
        public func execute(_ body: @escaping @Sendable () -> Void) -> Bool {
            queue.append(body)
        }
    }

    /// What lets other threads run code on this loop.
    public var waker: Waker { Waker(queue: core.wakes) }

    /// Runs `work`, which may block, on another thread, and then `then` with its result on the loop, once.
    ///
    /// The pool has 4 threads; what finds them busy waits, so work that never returns stops the rest. The loop
    /// runs until `then` has run, and a loop that is let go waits for work that has begun. Throws EAGAIN when no
    /// thread can be made (pthread_create(3)).
    public func offload<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value, then: @escaping (Result<Value, any Error>) -> Void
    ) throws(IOError) {
        core.assertThread("EventLoop.offload")
        let result = OffloadResult<Value>()
        try core.driver.offload({ result.set(Result { try work() }) }) { [core] in
            guard let value = result.take() else { return }
            core.perform(.offloaded) { then(value) }
        }
    }
}

/// The way of a result from its thread to the loop.
private final class OffloadResult<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)

    func set(_ value: Result<Value, any Error>) {
        result.withLock { $0 = value }
    }

    func take() -> Result<Value, any Error>? {
        result.withLock { $0 }
    }
}
