internal import Synchronization

extension EventLoop {
    /// The door for other threads: the only object of a loop that may cross them.
    ///
    /// It does not keep the loop running; what was asked for does, until it has run.
    public struct Waker: Sendable {
        let queue: WakeQueue

        /// Runs `body` on the loop: later, exactly once, in the order of the calls of each thread. Any thread may
        /// call this, also from a callback of the loop, but no signal handler.
        ///
        /// Returns false, and lets go of `body`, when the loop is gone; a loop that is let go before it runs again
        /// lets go of what still waits.
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

/// What other threads want done on a loop, until it is done.
final class WakeQueue: Sendable {
    typealias Body = @Sendable () -> Void

    private struct State {
        var bodies: [Body] = []
        /// Nothing once the loop is gone.
        var wake: Body?
    }

    private let state: Mutex<State>

    init(wake: @escaping Body) {
        state = Mutex(State(wake: wake))
    }

    var isEmpty: Bool { state.withLock { $0.bodies.isEmpty } }

    func append(_ body: @escaping Body) -> Bool {
        state.withLock { state in
            guard let wake = state.wake else { return false }
            state.bodies.append(body)
            // Inside the lock, so that the loop cannot close meanwhile what `wake` needs. Once is enough: the loop
            // takes all that it finds.
            if state.bodies.count == 1 { wake() }
            return true
        }
    }

    func takeAll() -> [Body] {
        state.withLock { state in
            let bodies = state.bodies
            state.bodies = []
            return bodies
        }
    }

    func close() {
        state.withLock { $0.wake = nil }
        // Let go of outside the lock, also by an optimised build: what they captured may ask for something as it goes.
        withExtendedLifetime(takeAll()) {}
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
