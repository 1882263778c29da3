import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

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

/// Something that one thread tells another, which may wait for it without computing.
final class Flag: Sendable {
    private let value = Atomic(false)
    private let semaphore = DispatchSemaphore(value: 0)

    var isSet: Bool { value.load(ordering: .acquiring) }

    func set() {
        value.store(true, ordering: .releasing)
        semaphore.signal()
    }

    /// Waits for it, for ten seconds at most.
    func wait(sourceLocation: SourceLocation = #_sourceLocation) {
        if semaphore.wait(timeout: .now() + .seconds(10)) != .success {
            Issue.record("the flag was not set within 10 s", sourceLocation: sourceLocation)
        }
        // For whoever waits as well.
        semaphore.signal()
    }
}

/// Waits for a fact that another thread or the kernel brings about: no matter of time.
func waitUntil(_ what: String, _ sourceLocation: SourceLocation = #_sourceLocation, isSo: () -> Bool) {
    let end = ContinuousClock.now + .seconds(10)
    var looks = 0
    while !isSo() {
        looks += 1
        // After a while others need the processor more.
        if looks > 1_000 { poll(nil, 0, 1) }
        guard ContinuousClock.now < end else {
            Issue.record("there was no \(what) within 10 s", sourceLocation: sourceLocation)
            return
        }
        sched_yield()
    }
}
