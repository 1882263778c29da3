import Dispatch
import Synchronization
import TestSupport

/// Something that one thread reaches and another waits for, without a sleep.
final class Milestone: Sendable {
    private let name: String
    private let reached = Atomic(false)
    private let semaphore = DispatchSemaphore(value: 0)

    init(_ name: String) { self.name = name }

    var isReached: Bool { reached.load(ordering: .acquiring) }

    func reach() {
        reached.store(true, ordering: .releasing)
        semaphore.signal()
    }

    /// Blocks until it is reached; throws when it is not within ten seconds.
    func wait() throws {
        guard semaphore.wait(timeout: .now() + .seconds(10)) == .success else {
            throw PeerError(call: "wait", cause: .timeLimit(.seconds(10)), waitedFor: name)
        }
        // For whoever waits as well.
        semaphore.signal()
    }
}
