internal import CallbackModel

/// One call that waits, apart from the other calls of its object. A cancellation names it by its number: it comes
/// later, from any thread, and the same object may wait for something else then.
@safe struct Waiter<Output> {
    typealias Continuation = UnsafeContinuation<Output, any Error>

    let number: UInt64
    /// Resumed once, by whoever has removed the waiter from its place.
    private let continuation: Continuation

    init(_ number: UInt64, _ continuation: Continuation) {
        self.number = number
        unsafe self.continuation = continuation
    }

    func resume(returning output: sending Output) { unsafe continuation.resume(returning: output) }
    func resume(throwing error: any Error) { unsafe continuation.resume(throwing: error) }
}

/// An object of a loop whose calls wait and can be cancelled.
class WaitedFor {
    /// Reaches the loop from other threads.
    private let waker: EventLoop.Waker
    private var lastNumber: UInt64 = 0

    init(_ waker: EventLoop.Waker) { self.waker = waker }

    /// The call of this number has been cancelled; it may have been resumed before.
    func cancel(_ number: UInt64) {}

    /// Waits until whoever gets the waiter resumes it. A task that is cancelled meanwhile, or is already, makes the
    /// loop call `cancel`, in a later turn.
    ///
    /// `isolation` is the caller's actor, if it is of one. Without the parameter the closure below would be of none,
    /// and run on a thread of Swift's pool (vendor notes, swift.md, 27).
    final func wait<Output>(
        isolation: isolated (any Actor)? = #isolation, _ begin: (Waiter<Output>) -> Void
    ) async throws -> Output {
        lastNumber += 1
        let number = lastNumber
        // Opened on the loop only.
        let object = LoopOnly(self)
        let waker = waker
        return try await withTaskCancellationHandler {
            // Not captured, it would leave the closure of no actor.
            _ = isolation
            return try await unsafe withUnsafeThrowingContinuation { continuation in
                begin(unsafe Waiter(number, continuation))
            }
        } onCancel: {
            // Refused by a loop that is gone: that has ended the wait, or is about to.
            waker.execute { object.opened.cancel(number) }
        }
    }
}

/// Tells when what has captured it is let go: a callback that the loop releases without a call.
final class LettingGo {
    private let body: () -> Void

    init(_ body: @escaping () -> Void) { self.body = body }

    deinit { body() }
}
