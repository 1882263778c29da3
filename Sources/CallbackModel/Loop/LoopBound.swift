internal import Glibc
internal import Synchronization

/// A value of one loop that other threads may name, and only the loop may open: a connection that a task elsewhere
/// writes to, a room that several loops send into.
///
/// The loop keeps the value until the handle is let go, and releases it on its own thread. A loop that is let go
/// releases it then; the handle stays, and opens nothing any more.
///
/// A value that holds the loop keeps it for ever, as a callback does.
public final class LoopBound<Value>: Sendable {
    private let wakes: WakeQueue
    /// Opened by what the wake queue runs, on the loop.
    private let slot: LoopOnly<LoopSlot<Value>>

    /// Gives `value` into the keeping of `loop`. For the loop's thread.
    public init(_ value: Value, on loop: EventLoop) {
        loop.core.assertThread("LoopBound.init")
        wakes = loop.core.wakes
        slot = LoopOnly(LoopSlot(value, loop.core))
    }

    deinit {
        // Behind all that was asked through this handle. If the loop is gone, it has emptied the slot or is about to.
        _ = wakes.append { [slot] in slot.opened.leave() }
    }

    /// Runs `body` with the value on the loop, later, as ``EventLoop/Waker/execute(_:)`` does: at most once, in the
    /// order of the calls of each thread. Returns false once the loop is gone. What waits when the loop is let go is
    /// released without a call.
    @discardableResult
    public func execute(_ body: @escaping @Sendable (Value) -> Void) -> Bool {
        wakes.append { [slot] in
            if let value = slot.opened.value { body(value) }
        }
    }

    /// Runs `body` with the value on the loop, and returns what it returns, or throws what it throws.
    ///
    /// Throws ECANCELED when the loop has been let go, before the call or before `body` has run. The caller waits until
    /// the loop runs; cancellation does not shorten that. On the loop's own thread a task may call it as well: `body`
    /// runs in a later turn.
    nonisolated(nonsending) public func run<Output: Sendable>(
        _ body: @escaping @Sendable (Value) throws -> Output
    ) async throws -> Output {
        try await withCheckedThrowingContinuation { continuation in
            let answer = LoopAnswer(continuation)
            // Refused or dropped, the answer goes with the closure, and says so.
            execute { value in answer.give(Result { try body(value) }) }
        }
    }
}

/// What a loop keeps for a ``LoopBound``. Only its thread opens it.
final class LoopSlot<Value>: AnyLoopSlot {
    private(set) var value: Value?
    private weak var core: LoopCore?

    init(_ value: Value, _ core: LoopCore) {
        self.value = value
        self.core = core
        super.init()
        core.slots[ObjectIdentifier(self)] = self
    }

    override func empty() {
        letGo(of: value) { value = nil }
    }

    /// The handle is gone.
    func leave() {
        core?.slots[ObjectIdentifier(self)] = nil
        empty()
    }
}

/// A slot of whatever value.
class AnyLoopSlot {
    /// Lets go of the value.
    func empty() {}
}

/// Resumes whoever waits for the loop: with an answer, or, if it is let go without one, with an error.
private final class LoopAnswer<Output: Sendable>: Sendable {
    private let continuation: CheckedContinuation<Output, any Error>
    private let isGiven = Atomic(false)

    init(_ continuation: CheckedContinuation<Output, any Error>) {
        self.continuation = continuation
    }

    deinit {
        guard !isGiven.load(ordering: .relaxed) else { return }
        continuation.resume(
            throwing: IOError.invalid("LoopBound.run", "the loop has been let go", errno: ECANCELED))
    }

    func give(_ result: Result<Output, any Error>) {
        isGiven.store(true, ordering: .relaxed)
        continuation.resume(with: result)
    }
}

extension LoopCore {
    /// Lets go of what handles on other threads name.
    func emptySlots() {
        while let (key, slot) = slots.first {
            slots[key] = nil
            slot.empty()
        }
    }
}
