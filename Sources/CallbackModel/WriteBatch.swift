internal import Glibc

/// The bytes that callbacks have written and no system call has carried yet: one buffer for the whole loop.
///
/// Small writes of one callback are laid behind each other and leave in one `send` when the callback returns
/// (contract clause 7). A connection's bytes are one run of the buffer: if another connection wrote in
/// between, the run is moved to the end, so that it stays one.
///
/// What a callback passes on as it got it is not even copied: the run is then the part of the loop's read buffer where
/// the bytes are, which stay there until the callback has returned.
///
/// A struct in `LoopCore`, not a class: a message would otherwise touch a retain count twice.
@safe struct WriteBatch {
    /// 64 KiB, libuv's own suggestion for a read buffer: what one read brought can be answered in one piece.
    static let capacity = 64 * 1024

    /// Larger pieces go straight to the kernel: copying 16 KiB costs about what the saved system call does.
    static let largestPiece = 16 * 1024

    /// Whether a piece of `count` bytes belongs here; an empty one has no address to copy from.
    @inline(__always)
    static func takes(_ count: Int) -> Bool {
        UInt(bitPattern: count &- 1) < UInt(largestPiece)
    }

    // Allocated in `init`, given back in `deallocate`; every offset is checked against `used`.
    private let base = UnsafeMutablePointer<UInt8>.allocate(capacity: WriteBatch.capacity)
    private var used = 0

    /// What `onData` is looking at; `lentCount` is 0 while it does not run.
    private var lent = unsafe UnsafePointer<UInt8>(bitPattern: 1).unsafelyUnwrapped
    private var lentCount = 0

    /// Where the run of a connection is.
    enum Place: UInt8 {
        /// It has none.
        case nowhere
        /// In this buffer.
        case copied
        /// In the bytes that are lent.
        case lent
    }

    /// The connections with bytes here, linked through themselves. The loop owns each until its `onClose`, which
    /// never comes before the end of the callback; so no retain is needed.
    private var firstDirty: Unmanaged<Connection>? = nil

    func deallocate() {
        unsafe base.deallocate()
    }

    /// `bytes` stay where they are until `takeBack`, and everything is sent before they are written over.
    @inline(__always)
    mutating func lend(_ bytes: Span<UInt8>) {
        unsafe lent = bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
        lentCount = bytes.count
    }

    /// No longer takes bytes for lent ones: where they were there may be others.
    @inline(__always)
    mutating func takeBack() {
        lentCount = 0
    }

    /// Notes `bytes`, as many as `takes` says, behind what `connection` has here, if they are lent ones and no others
    /// are between.
    ///
    /// Small on purpose: it is inlined into `write`, and every call that it might make would cost each message
    /// the saving of registers.
    @inline(__always)
    mutating func appendLent(_ bytes: Span<UInt8>, of connection: Connection) -> Bool {
        let start = unsafe bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped - lent }
        // Also false for those that begin before them. Those that begin in them are all of them.
        if UInt(bitPattern: start) >= UInt(bitPattern: lentCount) { return false }
        if connection.batchPlace == .nowhere {
            connection.batchStart = Int32(truncatingIfNeeded: start)
            add(connection, in: .lent)
        } else if connection.batchPlace != .lent || Int(connection.batchEnd) != start {
            return false
        }
        connection.batchEnd = Int32(truncatingIfNeeded: start &+ bytes.count)
        return true
    }

    @inline(__always)
    private mutating func add(_ connection: Connection, in place: Place) {
        connection.batchPlace = place
        unsafe connection.nextDirty = firstDirty
        unsafe firstDirty = .passUnretained(connection)
    }

    /// Copies `bytes`, as many as `takes` says, behind what `connection` has here; false if that takes a `makeRoom` before.
    @inline(__always)
    mutating func append(_ bytes: Span<UInt8>, of connection: Connection) -> Bool {
        let count = bytes.count
        let start = used
        let end = start &+ count
        if end > Self.capacity { return false }
        if connection.batchPlace == .nowhere {
            connection.batchStart = Int32(truncatingIfNeeded: start)
            add(connection, in: .copied)
        } else if connection.batchPlace != .copied || Int(connection.batchEnd) != start {
            return false
        }
        connection.batchEnd = Int32(truncatingIfNeeded: end)
        used = end
        unsafe bytes.withUnsafeBufferPointer { source in
            _ = unsafe memcpy(base + start, source.baseAddress.unsafelyUnwrapped, count)
        }
        return true
    }

    /// Makes the run of `connection` the last one, with `count` bytes free behind it, sending what is in the way.
    mutating func makeRoom(for count: Int, of connection: Connection) {
        let run = connection.batchCount
        if Self.capacity - used < run + count { return flush() }
        unsafe (base + used).update(from: bytes(of: connection), count: run)
        if connection.batchPlace == .lent { connection.batchPlace = .copied }
        connection.batchStart = Int32(used)
        used += run
        connection.batchEnd = Int32(used)
    }

    /// Sends everything, each connection's run in one piece. Runs no callback.
    @inline(__always)
    mutating func flush() {
        guard let first = unsafe firstDirty else { return }
        // Nearly always one connection has written, the one whose callback it was.
        let isOnly = unsafe first._withUnsafeGuaranteedRef { unsafe $0.nextDirty == nil }
        if !isOnly { return flushAll() }
        unsafe firstDirty = nil
        used = 0
        unsafe first._withUnsafeGuaranteedRef {
            send(of: $0)
            $0.batchPlace = .nowhere
        }
    }

    /// Sends what `connection` has here, before something that must follow it. Runs no callback.
    func flush(_ connection: Connection) {
        send(of: connection)
    }

    @inline(__always)
    private func send(of connection: Connection) {
        let count = connection.batchCount
        if count <= 0 { return }
        let start = unsafe bytes(of: connection)
        connection.batchStart = connection.batchEnd
        connection.handOver(unsafe Span(_unsafeStart: start, count: count))
    }

    /// Where the run of `connection` begins.
    @inline(__always)
    private func bytes(of connection: Connection) -> UnsafePointer<UInt8> {
        let start = Int(connection.batchStart)
        return unsafe connection.batchPlace == .lent ? lent + start : UnsafePointer(base + start)
    }

    private mutating func flushAll() {
        var next = unsafe firstDirty
        unsafe firstDirty = nil
        used = 0
        while let current = unsafe next {
            unsafe current._withUnsafeGuaranteedRef { connection in
                unsafe next = connection.nextDirty
                connection.nextDirty = nil
                send(of: connection)
                connection.batchPlace = .nowhere
            }
        }
    }
}
