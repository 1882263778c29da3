internal import Glibc

/// The bytes that callbacks have written and no system call has carried yet: one buffer for the whole loop.
///
/// A connection's bytes are one run, which leaves in one `send` when the callback returns (contract clause 7).
///
///     | run A | spare of A | run B | room |   A is parked, B current: the one that was written to last
///     | run A | spare of A | run B |          B grows into the room behind it
///     | (gap)              | run B | run A | spare | room |   A does not fit: it moves, with as much again to grow in
///     | read buffer: ... | run C | ... |      bytes that a callback passes on as it got them: not copied
///     | array |                               a large array, all that its connection has written: kept, not copied
///
/// It sends nothing itself: `LoopCore` removes the runs and hands them over. A struct: swift.md 9.
@safe struct WriteBatch {
    /// 64 KiB: four of the largest pieces that belong here.
    static let capacity = 64 * 1024

    /// Larger pieces go straight to the kernel: copying 16 KiB costs about what the saved system call does.
    static let largestPiece = 16 * 1024

    /// Whether a piece of `count` bytes belongs here; an empty one has no address to copy from.
    @inline(__always)
    static func fits(_ count: Int) -> Bool {
        UInt(bitPattern: count &- 1) < UInt(largestPiece)
    }

    // Allocated here, given back in `deallocate`; every write goes to what `reserve` has set aside.
    private let base = UnsafeMutablePointer<UInt8>.allocate(capacity: WriteBatch.capacity)
    private var used = 0

    /// What `onData` is looking at; `lentCount` is 0 while it does not run.
    private var lent: UnsafePointer<UInt8>
    private var lentCount = 0

    /// Bytes of one connection that lie behind each other, at least one.
    @safe struct Run {
        /// The loop owns it until its `onClose`, which comes after the callback: no retain is needed.
        let owner: Unmanaged<Connection>
        let start: UnsafePointer<UInt8>
        let count: Int
        /// Bytes of the buffer behind it that it may grow in.
        let spare: Int
    }

    // The current run, in four variables: swift.md 12. Without an owner there is none, and none is parked either.
    private var owner: Unmanaged<Connection>? = nil
    private var start: UnsafePointer<UInt8>
    private var count = 0
    /// 0 as long as `hasMore` is false, so that a message need not set it.
    private var spare = 0

    /// Each has its place in its owner's `batchIndex`: at most as many as there are connections.
    private var parked: [Run] = []

    /// The array of which runs consist that begin where its bytes do; empty if there is none.
    private(set) var kept: [UInt8] = []

    /// Whether a flush has more to look at than the current run: others, an array, or a connection with a layer.
    private(set) var hasMore = false

    init() {
        unsafe lent = UnsafePointer(base)
        unsafe start = lent
    }

    func deallocate() {
        unsafe base.deallocate()
    }

    private var room: Int { Self.capacity - used }
    private var top: UnsafeMutablePointer<UInt8> { unsafe base + used }

    // MARK: Lent bytes

    /// `bytes` stay where they are until `endLending`, and everything is sent before they are written over.
    @inline(__always)
    mutating func lend(_ bytes: Span<UInt8>) {
        unsafe lent = bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
        lentCount = bytes.count
    }

    /// The read buffer may hold other bytes from now on.
    @inline(__always)
    mutating func endLending() {
        lentCount = 0
    }

    /// Adds lent bytes that follow each other in the read buffer, and returns how many bytes the run has then. Returns
    /// 0 for any others. Makes no call: it is inlined into `write` (swift.md 7).
    @inline(__always)
    mutating func appendLent(_ bytes: Span<UInt8>, of connection: Connection) -> Int {
        let address = unsafe bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
        guard unsafe isLent(address) else { return 0 }
        if unsafe owner == nil {
            assert(spare == 0)
            unsafe owner = .passUnretained(connection)
            unsafe start = address
            count = bytes.count
        } else {
            guard isCurrent(connection), unsafe start + count == address else { return 0 }
            count &+= bytes.count
        }
        return count
    }

    /// Also false for an address before them. Bytes that begin among lent ones are all lent.
    @inline(__always)
    private func isLent(_ address: UnsafePointer<UInt8>) -> Bool {
        unsafe UInt(bitPattern: address - lent) < UInt(bitPattern: lentCount)
    }

    // MARK: Growing

    /// Adds `bytes`, as many as `fits` allows, behind what `connection` has here; false if there is no room before a
    /// flush.
    mutating func append(_ bytes: Span<UInt8>, of connection: Connection) -> Bool {
        let address = unsafe bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
        if makeCurrent(connection) {
            guard makeRoom(for: bytes.count) else { return false }
        } else if unsafe isLent(address) {
            unsafe begin(connection, at: address, count: bytes.count)
            return true
        } else {
            guard room >= bytes.count else { return false }
            unsafe begin(connection, at: top, count: 0)
            reserve(bytes.count)
        }
        unsafe memcpy(UnsafeMutablePointer(mutating: start + count), address, bytes.count)
        count += bytes.count
        spare -= bytes.count
        return true
    }

    /// Begins a run that is `array` itself, if `connection` has none here and no other array is kept.
    mutating func keep(_ array: [UInt8], of connection: Connection) -> Bool {
        guard !isCurrent(connection), connection.batchIndex < 0 else { return false }
        // It stays where it is while it is kept: a write to another reference of it makes a copy.
        let address = unsafe array.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
        guard unsafe kept.isEmpty || isKept(address) else { return false }
        kept = array
        unsafe begin(connection, at: address, count: array.count)
        hasMore = true
        return true
    }

    /// The current run is of a connection with a layer.
    mutating func currentIsLayered() {
        hasMore = true
    }

    private func isKept(_ start: UnsafePointer<UInt8>) -> Bool {
        unsafe !kept.isEmpty && kept.withUnsafeBufferPointer { unsafe $0.baseAddress == start }
    }

    /// Whether `run` is what is kept.
    func isKept(_ run: Run) -> Bool { unsafe isKept(run.start) && run.count == kept.count }

    /// Makes the run of `connection` current; false if it has none.
    private mutating func makeCurrent(_ connection: Connection) -> Bool {
        if isCurrent(connection) { return true }
        guard let run = removeParked(of: connection) else { return false }
        park()
        setCurrent(run)
        return true
    }

    private mutating func setCurrent(_ run: Run) {
        unsafe owner = run.owner
        unsafe start = run.start
        count = run.count
        spare = run.spare
    }

    @inline(__always)
    private func isCurrent(_ connection: Connection) -> Bool {
        unsafe owner?.toOpaque() == Unmanaged.passUnretained(connection).toOpaque()
    }

    private mutating func begin(_ connection: Connection, at address: UnsafePointer<UInt8>, count: Int) {
        park()
        unsafe setCurrent(Run(owner: .passUnretained(connection), start: address, count: count, spare: 0))
    }

    /// Gives the current run `size` bytes to grow in; moves it, unless it is the last in the buffer.
    private mutating func makeRoom(for size: Int) -> Bool {
        if spare >= size { return true }
        if unsafe start + count + spare == UnsafePointer(top) {
            guard room >= size - spare else { return false }
            reserve(size - spare)
            return true
        }
        guard room >= count + size else { return false }
        let isOvertaken = unsafe UInt(bitPattern: start - UnsafePointer(base)) < UInt(Self.capacity)
        unsafe memcpy(top, start, count)
        unsafe start = UnsafePointer(top)
        used += count
        spare = 0
        reserve(isOvertaken ? min(size + count, room) : size)
        return true
    }

    /// Gives the current run, which is the last in the buffer, `size` bytes more.
    private mutating func reserve(_ size: Int) {
        used += size
        spare += size
    }

    private mutating func park() {
        guard let owner = unsafe owner else { return }
        let index = Int32(parked.count)
        unsafe owner._withUnsafeGuaranteedRef { $0.batchIndex = index }
        unsafe parked.append(Run(owner: owner, start: start, count: count, spare: spare))
        hasMore = true
    }

    private mutating func removeParked(of connection: Connection) -> Run? {
        let index = Int(connection.batchIndex)
        guard index >= 0 else { return nil }
        connection.batchIndex = -1
        let run = parked[index]
        let last = parked.removeLast()
        if index < parked.count {
            parked[index] = last
            unsafe last.owner._withUnsafeGuaranteedRef { $0.batchIndex = Int32(index) }
        }
        return run
    }

    // MARK: Removing

    /// How many bytes `connection` has here.
    func count(of connection: Connection) -> Int {
        if isCurrent(connection) { return count }
        let index = Int(connection.batchIndex)
        return index >= 0 ? parked[index].count : 0
    }

    var isEmpty: Bool {
        @inline(__always) get { unsafe owner == nil }
    }

    /// Removes the only run.
    @inline(__always)
    mutating func removeSingle() -> Run {
        assert(spare == 0)
        let run = unsafe Run(owner: owner.unsafelyUnwrapped, start: start, count: count, spare: 0)
        unsafe owner = nil
        used = 0
        return run
    }

    /// Removes any run; `nil` if there is none.
    mutating func removeAny() -> Run? {
        guard let owner = unsafe owner else { return nil }
        let run = unsafe Run(owner: owner, start: start, count: count, spare: spare)
        makeAnotherCurrent()
        return run
    }

    /// Removes the run of `connection`.
    mutating func remove(of connection: Connection) -> Run? {
        isCurrent(connection) ? removeAny() : removeParked(of: connection)
    }

    private mutating func makeAnotherCurrent() {
        guard let run = parked.popLast() else {
            unsafe owner = nil
            spare = 0
            return
        }
        unsafe run.owner._withUnsafeGuaranteedRef { $0.batchIndex = -1 }
        setCurrent(run)
    }

    /// With no run left, frees the whole buffer and what was kept. Only when all removed runs are handed over.
    mutating func tidy() {
        guard isEmpty else { return }
        used = 0
        kept = []
        hasMore = false
    }
}
