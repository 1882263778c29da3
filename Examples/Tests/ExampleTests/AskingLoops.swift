import CallbackServer
import Dispatch
import Synchronization
import Testing

/// Asks a loop, and waits for what it says.
func answer<Value, Answer: Sendable>(
    of value: LoopBound<Value>, _ question: @escaping @Sendable (Value) -> Answer
) throws -> Answer {
    let (reply, isThere) = (Reply<Answer>(), DispatchSemaphore(value: 0))
    value.execute { value in
        let answer = question(value)
        reply.answer.withLock { $0 = answer }
        isThere.signal()
    }
    try #require(isThere.wait(timeout: .now() + 120) == .success)
    return try #require(reply.answer.withLock { $0 })
}

private final class Reply<Answer: Sendable>: Sendable {
    let answer = Mutex<Answer?>(nil)
}
