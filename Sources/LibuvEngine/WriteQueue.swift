internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// What the kernel did not take: blocks of bytes, sent from the front and filled at the back.
///
/// | finished | in flight: libuv is writing them | waiting, the last one may have room |
///
/// Exists only while something is queued. libuv reads the blocks in flight until its callback, so this object
/// lives until then, also when the stream is closed first.
@safe final class WriteQueue {
    /// The stream to tell. It lives as long as this: libuv calls back for every write before it does for the close.
    unowned let stream: LibuvStream

    /// 64 KiB: small pieces share blocks of this size. A larger piece has a block of its own. Behind an array, where
    /// another array may follow, 4 KiB.
    private static let (blockSize, blockSizeBehindArray) = (64 * 1024, 4 * 1024)
    /// 1 MiB keeps a system call busy.
    private static let bytesPerCall = 1 << 20
    /// IOV_MAX, the most that one call takes (writev(2)).
    private static let blocksPerCall = 1_024

    @safe private struct Block {
        private(set) var count = 0
        let capacity: Int
        // Allocated in `init`, given back in `deallocate`. Or the bytes of `kept`.
        private let base: UnsafeMutablePointer<UInt8>
        /// The array whose bytes these are. Held here, it never moves: a write to another reference makes a copy.
        private(set) var kept: [UInt8]?

        init(capacity: Int) {
            self.capacity = capacity
            unsafe base = .allocate(capacity: capacity)
        }

        /// `bytes` of `array`, and no room for others.
        init(keeping bytes: Span<UInt8>, of array: [UInt8]) {
            count = bytes.count
            capacity = bytes.count
            unsafe base = bytes.withUnsafeBufferPointer { unsafe .init(mutating: $0.baseAddress.unsafelyUnwrapped) }
            kept = array
        }

        mutating func append(_ bytes: Span<UInt8>) {
            require(bytes.count <= capacity - count, "a block of queued bytes has no room for what is appended")
            unsafe bytes.withUnsafeBufferPointer { source in
                guard let start = source.baseAddress else { return }
                unsafe (base + count).update(from: start, count: source.count)
            }
            count += bytes.count
        }

        var buffer: uv_buf_t {
            unsafe uv_buf_t(base: UnsafeMutableRawPointer(base).assumingMemoryBound(to: CChar.self), len: count)
        }

        var room: Int { capacity - count }

        mutating func deallocate() {
            if kept == nil { unsafe base.deallocate() }
            kept = nil
        }
    }

    private var blocks: [Block] = []
    /// How many at the front are sent. They are removed when they are half, so that each costs constant time.
    private var finished = 0
    /// How many of the next ones libuv is writing. They must neither move nor grow.
    private var inFlight = 0
    private let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)

    init(stream: LibuvStream) {
        self.stream = stream
    }

    deinit {
        for index in finished..<blocks.count { blocks[index].deallocate() }
        unsafe request.deallocate()
    }

    var isEmpty: Bool { finished == blocks.count }

    /// Bytes that are not yet in libuv's hands.
    private(set) var waitingByteCount = 0

    /// Puts `bytes` behind what is here. They are copied, unless they are enough of `array` for it to be kept. What
    /// fits into the last block is always copied, or each small piece between arrays would have a block.
    func append(_ bytes: Span<UInt8>, of array: [UInt8]?) {
        waitingByteCount += bytes.count
        let last = blocks.count - 1
        let room = last >= finished + inFlight ? blocks[last].room : 0
        if let array, room < bytes.count, Connection.isKept(bytes.count, of: array) {
            return blocks.append(Block(keeping: bytes, of: array))
        }
        if room > 0 { blocks[last].append(bytes.extracting(first: room)) }
        let rest = bytes.extracting(droppingFirst: room)
        guard !rest.isEmpty else { return }
        let isBehindArray = blocks.last?.kept != nil
        var block = Block(capacity: max(isBehindArray ? Self.blockSizeBehindArray : Self.blockSize, rest.count))
        block.append(rest)
        blocks.append(block)
    }

    /// Gives the front of the queue to libuv. `done` runs later and calls `removeFront()`, also after a failure.
    func send(to stream: UnsafeMutablePointer<uv_stream_t>, _ done: @escaping uv_write_cb) -> CInt {
        var buffers = unsafe [uv_buf_t]()
        var count = 0
        for block in blocks[finished...].prefix(Self.blocksPerCall) where count < Self.bytesPerCall {
            unsafe buffers.append(block.buffer)
            count += block.count
        }
        unsafe inFlight = buffers.count
        waitingByteCount -= count
        // Retain 2, released by the `takeRetainedValue` in `done`.
        unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        return unsafe uv_write(request, stream, buffers, CUnsignedInt(inFlight), done)
    }

    /// libuv no longer needs what it was given.
    func removeFront() {
        for index in finished..<finished + inFlight { blocks[index].deallocate() }
        finished += inFlight
        inFlight = 0
        if finished * 2 > blocks.count {
            blocks.removeFirst(finished)
            finished = 0
        }
    }
}
