import Glibc

/// Runs a blocking closure on a thread of its own, so that a test can run an event loop on its own thread
/// while a blocking peer talks to it.
public func onThread<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) -> RunningThread<Value> {
    RunningThread(body)
}

/// A closure that runs on its own thread, and its outcome.
public final class RunningThread<Value: Sendable>: Sendable {
    private let outcome = Monitor<Result<Value, any Error>?>(nil)

    fileprivate init(_ body: @escaping @Sendable () throws -> Value) {
        startDetachedThread { [outcome] in
            let result = Result { try body() }
            outcome.withLock { $0 = result }
        }
    }

    /// Whether the closure has returned or thrown.
    public var isFinished: Bool { outcome.withLock { $0 != nil } }

    /// Waits for the closure; gives its value or throws its error.
    ///
    /// When the time limit passes, `PeerError` is thrown and the thread is left alone: nothing can stop it.
    public func value(timeLimit: Duration = standardTimeLimit) throws -> Value {
        let deadline = Deadline(in: timeLimit)
        guard let result = outcome.wait(until: deadline, for: { $0 }) else {
            throw deadline.error("onThread", waitedFor: "the closure to finish")
        }
        return try result.get()
    }
}

/// Starts a thread that nobody joins.
func startDetachedThread(_ body: @escaping @Sendable () -> Void) {
    final class Start {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    // Released by `takeRetainedValue` in the new thread.
    let start = Unmanaged.passRetained(Start(body)).toOpaque()
    var thread = pthread_t()
    let status = pthread_create(
        &thread, nil,
        { argument in
            Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()
            return nil
        }, start)
    precondition(status == 0, "pthread_create: \(errnoName(status))")
    pthread_detach(thread)
}
