internal import Synchronization

/// The connections of one listener of a group, counted over all its loops.
///
/// A place is reserved before a client is accepted, so loops that accept at the same time never have more connections
/// together than the limit.
final class Places: Sendable {
    private let limit: Int
    /// Connections, and places that are reserved for one.
    private let taken = Atomic(0)
    private let perLoop: [Count]
    /// Whether someone waits for the next place to become free.
    private let isAwaited = Atomic(false)
    /// Tells the group's first loop that a place has become free.
    private let ring: @Sendable () -> Void

    private final class Count: Sendable {
        let value = Atomic(0)
    }

    init(limit: Int?, loops: Int, ring: @escaping @Sendable () -> Void) {
        self.limit = limit ?? .max
        perLoop = (0..<loops).map { _ in Count() }
        self.ring = ring
    }

    var count: Int { taken.load(ordering: .sequentiallyConsistent) }
    var isFull: Bool { count >= limit }

    /// Whether connections alone, without reserved places, are as many as may be.
    var isFullOfConnections: Bool { perLoop.reduce(0) { $0 + $1.value.load(ordering: .relaxed) } >= limit }

    func count(of loop: Int) -> Int { perLoop[loop].value.load(ordering: .relaxed) }

    /// Takes a place for a client that is still to be accepted. Returns false if none is free.
    func reserve() -> Bool {
        var seen = taken.load(ordering: .relaxed)
        while seen < limit {
            let isTaken: Bool
            (isTaken, seen) = taken.weakCompareExchange(
                expected: seen, desired: seen + 1, ordering: .sequentiallyConsistent)
            if isTaken { return true }
        }
        return false
    }

    /// Gives a reserved place to a connection of `loop`.
    func occupy(on loop: Int) { perLoop[loop].value.add(1, ordering: .relaxed) }

    /// The client of `loop` goes to another one. It keeps its place.
    func vacate(on loop: Int) { perLoop[loop].value.subtract(1, ordering: .relaxed) }

    /// Frees a place.
    func free() {
        taken.subtract(1, ordering: .sequentiallyConsistent)
        if isAwaited.load(ordering: .sequentiallyConsistent) { tellOnce() }
    }

    /// Has the first loop told of the next place that becomes free, or of one that is free now.
    func awaitPlace() {
        isAwaited.store(true, ordering: .sequentiallyConsistent)
        if !isFull { tellOnce() }
    }

    /// Has the first loop told when the last connection has closed, or at once if none is open.
    func awaitEnd() {
        isAwaited.store(true, ordering: .sequentiallyConsistent)
        if count == 0 { tellOnce() }
    }

    private func tellOnce() {
        if isAwaited.exchange(false, ordering: .sequentiallyConsistent) { ring() }
    }
}

/// What a listener has to do with the other loops of its group.
final class GroupPart {
    let places: Places
    /// The number of the listener's loop; `nil` for the first loop, which serves no client.
    let index: Int?
    /// Where accepted clients go; `nil` if they stay.
    let handOver: ((Int32, SocketAddress) -> Void)?
    /// Tells the first loop what becomes of the listener.
    let tell: (Event) -> Void
    /// Whether a place is reserved for the client that is accepted next.
    private var hasPlace = false

    enum Event: Sendable {
        case shed(Listener.Shed)
        case failed(IOError)
        case closed
    }

    init(
        places: Places, index: Int?, handOver: ((Int32, SocketAddress) -> Void)? = nil,
        tell: @escaping (Event) -> Void
    ) {
        self.places = places
        self.index = index
        self.handOver = handOver
        self.tell = tell
    }

    /// Makes sure of a place for the next client. Returns false if none is free.
    func reserve() -> Bool {
        if !hasPlace { hasPlace = places.reserve() }
        return hasPlace
    }

    /// Gives the reserved place to the client that was accepted; returns false if none was reserved.
    func spendPlace() -> Bool {
        defer { hasPlace = false }
        return hasPlace
    }

    /// No client came for the reserved place.
    func returnPlace() {
        if spendPlace() { places.free() }
    }

    /// A connection of the listener has closed.
    func connectionClosed() {
        if let index { places.vacate(on: index) }
        places.free()
    }
}
