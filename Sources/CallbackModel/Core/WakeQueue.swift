internal import Glibc
internal import Synchronization

/// What other threads want done on a loop: a list without a lock, the newest body first, that the loop removes whole.
/// The thread that makes the list non-empty wakes the loop, so one wake-up serves all that is added before the loop
/// looks. A thread that is stopped while it adds a body holds up no other.
@safe final class WakeQueue: Sendable {
    typealias Body = @Sendable () -> Void
    typealias Node = UnsafeMutablePointer<Waiting>

    /// A body and the one that was added before it. Allocated by `append`, given back by `WakeBatch`.
    @safe struct Waiting {
        let body: Body
        var next: Node?
    }

    // The list is a number, since a pointer does not cross threads: the address of its newest node, or one of these.
    private static let empty: UInt = 0
    /// No address of a node, which is aligned.
    private static let closed: UInt = 1

    /// Every change of it is a read and a write in one step, so what acquires the list sees all that was released into
    /// it.
    private let newest = Atomic<UInt>(WakeQueue.empty)
    /// How many threads may be about to call `wake`.
    private let wakersInside = Atomic<Int>(0)
    /// Makes the loop look. Not to be called once `close` has returned.
    let wake: @Sendable () -> Void

    /// `wake` is not called once `close` has returned.
    init(wake: @escaping @Sendable () -> Void) {
        self.wake = wake
    }

    deinit {
        close()
    }

    /// Whether nothing waits; also once it is closed.
    var isEmpty: Bool { newest.load(ordering: .acquiring) <= Self.closed }

    /// Returns false, and lets go of `body`, once it is closed.
    func append(_ body: @escaping Body) -> Bool {
        var seen = newest.load(ordering: .relaxed)
        guard seen != Self.closed else { return false }
        let node = Node.allocate(capacity: 1)
        unsafe node.initialize(to: Waiting(body: body, next: nil))
        while seen != Self.closed {
            if seen == Self.empty {
                seen = unsafe appendFirst(node)
                if seen == Self.empty { return true }
            } else {
                unsafe node.pointee.next = Node(bitPattern: seen)
                let isAdded: Bool
                (isAdded, seen) = newest.weakCompareExchange(
                    expected: seen, desired: UInt(bitPattern: node), successOrdering: .releasing,
                    failureOrdering: .relaxed)
                if isAdded { return true }
            }
        }
        unsafe node.deinitialize(count: 1)
        unsafe node.deallocate()
        return false
    }

    /// Makes `node` the only one and wakes the loop, if the list is empty still. Returns what it found in the list.
    private func appendFirst(_ node: Node) -> UInt {
        // Counted before the node can be seen, by the release below: `close`, which acquires the list, then waits for
        // the call of `wake`. What that needs is given back next.
        wakersInside.add(1, ordering: .relaxed)
        defer { wakersInside.subtract(1, ordering: .releasing) }
        unsafe node.pointee.next = nil
        let (isAdded, found) = newest.compareExchange(
            expected: Self.empty, desired: UInt(bitPattern: node), successOrdering: .releasing,
            failureOrdering: .relaxed)
        if isAdded { wake() }
        return found
    }

    /// Wakes the loop for what its own threads have done; does nothing once it is closed.
    func ring() {
        wakersInside.add(1, ordering: .relaxed)
        defer { wakersInside.subtract(1, ordering: .releasing) }
        // A change of the list that changes nothing: `close`, which acquires the list after it, then sees the count.
        let list = newest.bitwiseOr(0, ordering: .acquiringAndReleasing).oldValue
        if list != Self.closed { wake() }
    }

    /// Removes all that waits, in the order in which it was added.
    func removeAll() -> WakeBatch {
        guard !isEmpty else { return WakeBatch() }
        return WakeBatch(newest: newest.exchange(Self.empty, ordering: .acquiring))
    }

    /// Refuses what comes from now on, lets go of what waits, and returns once no thread can call `wake` any more.
    func close() {
        let waiting = newest.exchange(Self.closed, ordering: .acquiringAndReleasing)
        waitForWakers()
        // Last: what a body has captured may ask for something as it goes, and is refused.
        if waiting != Self.closed { WakeBatch(newest: waiting).letGo() }
    }

    /// How often `close` lets other threads run at once before it sleeps between two looks.
    private static let yieldLimit = 100

    /// They are between two lines of `appendFirst`, unless the scheduler has stopped one there.
    private func waitForWakers() {
        var yields = 0
        while wakersInside.load(ordering: .acquiring) != 0 {
            yields += 1
            // A thread of a real-time class does not yield to one of lower priority, so it has to sleep
            // (sched_yield(2)).
            if yields > Self.yieldLimit { sleepShortly() } else { sched_yield() }
        }
    }

    private func sleepShortly() {
        _ = poll(nil, 0, 1)
    }
}

/// Bodies that the loop has taken and not run yet, the oldest first. Only the loop's thread sees it.
@safe struct WakeBatch {
    private var oldest: WakeQueue.Node?

    /// One without a body.
    init() {
        unsafe oldest = nil
    }

    /// The nodes that hang together from `newest` on; turns them around.
    fileprivate init(newest: UInt) {
        var node = unsafe WakeQueue.Node(bitPattern: newest)
        unsafe oldest = nil
        while let current = unsafe node {
            unsafe node = current.pointee.next
            unsafe current.pointee.next = oldest
            unsafe oldest = current
        }
    }

    var isEmpty: Bool { unsafe oldest == nil }

    /// Removes the oldest body.
    mutating func next() -> WakeQueue.Body? {
        guard let node = unsafe oldest else { return nil }
        let waiting = unsafe node.move()
        unsafe node.deallocate()
        unsafe oldest = waiting.next
        return waiting.body
    }

    /// Lets go of the bodies without a call.
    consuming func letGo() {
        while let body = next() { withExtendedLifetime(body) {} }
    }
}
