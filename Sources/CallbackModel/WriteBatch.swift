/// The bytes that callbacks have written and no system call has carried yet: one buffer for the whole loop.
///
/// Small writes of one callback are laid behind each other and leave in one `send` when the callback returns
/// (contract clause 7). A connection's bytes are one run of the buffer: if another connection wrote in
/// between, the run is moved to the end, so that it stays one.
///
/// A struct behind a pointer of `LoopCore`, not a class: a message would otherwise touch a retain count twice.
@safe struct WriteBatch {
    /// 64 KiB, libuv's own suggestion for a read buffer: what one read brought can be answered in one piece.
    static let capacity = 64 * 1024

    /// Larger pieces go straight to the kernel: copying 16 KiB costs about what the saved system call does.
    static let largestPiece = 16 * 1024

    // Allocated in `init`, given back in `deallocate`; every offset is checked against `used`.
    private let base = UnsafeMutablePointer<UInt8>.allocate(capacity: WriteBatch.capacity)
    private var used = 0

    /// The connections with bytes here, linked through themselves. The loop owns each until its `onClose`, which
    /// never comes before the end of the callback; so no retain is needed.
    private var firstDirty: Unmanaged<Connection>? = nil

    func deallocate() {
        unsafe base.deallocate()
    }

    /// Copies `bytes`, at most `largestPiece`, behind what `connection` has here.
    @inline(__always)
    mutating func append(_ bytes: Span<UInt8>, of connection: Connection) {
        let count = bytes.count
        if connection.batchCount == 0 {
            if Self.capacity &- used < count { flush() }
            connection.batchStart = Int32(truncatingIfNeeded: used)
            if !connection.isDirty { link(connection) }
        } else if Int(connection.batchStart &+ connection.batchCount) != used || Self.capacity &- used < count {
            moveToEnd(connection, room: count)
        }
        unsafe bytes.withUnsafeBufferPointer { source in
            guard let start = source.baseAddress else { return }
            unsafe (base + used).update(from: start, count: count)
        }
        used &+= count
        connection.batchCount &+= Int32(truncatingIfNeeded: count)
    }

    /// Sends everything, each connection's run in one piece. Runs no callback.
    @inline(__always)
    mutating func flush() {
        if unsafe firstDirty != nil { flushAll() }
    }

    /// Sends what `connection` has here, before something that must follow it. Runs no callback.
    @inline(__always)
    mutating func flush(_ connection: Connection) {
        let count = Int(connection.batchCount)
        if count == 0 { return }
        connection.batchCount = 0
        let start = unsafe UnsafePointer(base + Int(connection.batchStart))
        connection.handOver(unsafe Span(_unsafeStart: start, count: count))
    }

    private mutating func flushAll() {
        var next = unsafe firstDirty
        unsafe firstDirty = nil
        while let current = unsafe next {
            unsafe current._withUnsafeGuaranteedRef { connection in
                unsafe next = connection.nextDirty
                connection.nextDirty = nil
                connection.isDirty = false
                flush(connection)
            }
        }
        used = 0
    }

    @inline(__always)
    private mutating func link(_ connection: Connection) {
        connection.isDirty = true
        connection.nextDirty = unsafe firstDirty
        unsafe firstDirty = .passUnretained(connection)
    }

    /// Makes the run of `connection` the last one with `room` bytes free behind it, sending everything if the
    /// buffer is too full for that.
    private mutating func moveToEnd(_ connection: Connection, room: Int) {
        let count = Int(connection.batchCount)
        if Self.capacity - used < count + room {
            flush()
            connection.batchStart = Int32(used)
            link(connection)
        } else {
            unsafe (base + used).update(from: base + Int(connection.batchStart), count: count)
            connection.batchStart = Int32(used)
            used += count
        }
    }
}
