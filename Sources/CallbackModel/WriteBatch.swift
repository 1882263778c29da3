internal import Glibc

/// The bytes that callbacks have written and no system call has carried yet: one buffer for the whole loop.
///
/// Small writes of one callback are laid behind each other and leave in one `send` when the callback returns
/// (contract clause 7). A connection's bytes are one run of the buffer: if another connection wrote in
/// between, the run is moved to the end, so that it stays one.
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

    /// The connections with bytes here, linked through themselves. The loop owns each until its `onClose`, which
    /// never comes before the end of the callback; so no retain is needed.
    private var firstDirty: Unmanaged<Connection>? = nil

    func deallocate() {
        unsafe base.deallocate()
    }

    /// Copies `bytes`, as many as `takes` says, behind what `connection` has here; false if that takes a `makeRoom` before.
    ///
    /// Small on purpose: it is inlined into `write`, and every call that it might make would cost each message
    /// the saving of registers.
    @inline(__always)
    mutating func append(_ bytes: Span<UInt8>, of connection: Connection) -> Bool {
        let count = bytes.count
        let start = used
        let end = start &+ count
        if end > Self.capacity { return false }
        if connection.isDirty {
            if Int(connection.batchEnd) != start { return false }
        } else {
            connection.batchStart = Int32(truncatingIfNeeded: start)
            connection.isDirty = true
            unsafe connection.nextDirty = firstDirty
            unsafe firstDirty = .passUnretained(connection)
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
        unsafe (base + used).update(from: base + Int(connection.batchStart), count: run)
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
            $0.isDirty = false; send(of: $0)
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
        let start = unsafe UnsafePointer(base + Int(connection.batchStart))
        connection.batchStart = connection.batchEnd
        connection.handOver(unsafe Span(_unsafeStart: start, count: count))
    }

    private mutating func flushAll() {
        var next = unsafe firstDirty
        unsafe firstDirty = nil
        used = 0
        while let current = unsafe next {
            unsafe current._withUnsafeGuaranteedRef { connection in
                unsafe next = connection.nextDirty
                connection.nextDirty = nil
                connection.isDirty = false
                send(of: connection)
            }
        }
    }
}
