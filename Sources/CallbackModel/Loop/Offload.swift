internal import Synchronization

extension EventLoop {
    /// Runs `work`, which may block, on another thread, and then `then` with its result on the loop, once.
    ///
    /// A loop has at most 4 threads for this. Work waits while they are busy, so work that never returns stops the
    /// rest. A thread is made when there is work for it, and ends when there is none. The loop runs until `then` has
    /// run, and a loop that is let go waits for work that has begun. Throws EAGAIN when no thread can be made
    /// (pthread_create(3)).
    ///
    /// - Precondition: the process is the one that has made the loop. A child of fork(2) has none of its threads.
    public func offload<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value, then: @escaping (Result<Value, any Error>) -> Void
    ) throws(IOError) {
        core.assertThread("EventLoop.offload")
        core.requireOwnProcess("EventLoop.offload")
        let result = OffloadResult<Value>()
        try core.offloads.add({ result.set(Result { try work() }) }) { [core] in
            guard let value = result.get() else { return }
            core.perform(.offloaded) { then(value) }
        }
        core.holdIfNeeded()
    }
}

/// The work of one loop that is on other threads.
final class Offloads {
    /// As many as libuv's own pool has: blocking work that hangs stops only what is behind all four.
    static let mostThreads = 4

    private let pool: ThreadPool
    private var thens: [UInt64: () -> Void] = [:]

    init(ring: @escaping @Sendable () -> Void) {
        pool = ThreadPool(width: Self.mostThreads, ring: ring)
    }

    /// Whether the loop waits for something.
    var isBusy: Bool { !thens.isEmpty }

    func add(_ work: @escaping @Sendable () -> Void, _ then: @escaping () -> Void) throws(IOError) {
        thens[try pool.add(work)] = then
    }

    /// Calls back for what has ended. `changed` comes before each callback.
    func becameReady(_ changed: () -> Void) {
        guard isBusy else { return }
        for id in pool.removeFinished() {
            guard let then = thens.removeValue(forKey: id) else { continue }
            changed()
            then()
        }
    }

    /// Waits for work that a thread has begun: nothing can stop it.
    func close() {
        letGo(of: thens) { thens = [:] }
        pool.close(waits: true)
    }
}

/// The way of a result from its thread to the loop.
private final class OffloadResult<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)

    func set(_ value: Result<Value, any Error>) {
        result.withLock { $0 = value }
    }

    func get() -> Result<Value, any Error>? {
        result.withLock { $0 }
    }
}
