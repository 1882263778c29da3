internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// What the kernel did not take: chunks of bytes, some of them in libuv's hands, the rest waiting behind.
///
/// Exists only while something is queued. libuv reads the chunks in flight until its callback, so this object
/// lives until then, also when the stream is closed first.
@safe final class PendingWrites {
    /// The stream to tell. It lives as long: libuv calls back for every write before it does for the close.
    unowned let stream: LibuvStream

    /// 64 KiB: small pieces behind a queue share chunks of this size; behind an array, where the next array may follow,
    /// of 4 KiB.
    private static let (chunkSize, chunkSizeBehindArray) = (64 * 1024, 4 * 1024)
    /// 1 MiB keeps a system call busy.
    private static let bytesPerWrite = 1 << 20
    /// IOV_MAX: libuv would make a system call for each so many.
    private static let chunksPerWrite = 1_024

    @safe private struct Chunk {
        private(set) var count = 0
        let capacity: Int
        // Allocated in `init`, given back in `deallocate`; or the bytes of an array.
        private let base: UnsafeMutablePointer<UInt8>
        /// They stay where they are for as long as it is here: who writes to another reference of it gets a copy.
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

    private var chunks: [Chunk] = []
    /// How many at the front are written; removed when they are half, so that each costs constant time.
    private var written = 0
    /// How many of the next ones libuv is writing; it must not see them move or grow.
    private var inFlight = 0
    private let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)

    init(stream: LibuvStream) {
        self.stream = stream
    }

    deinit {
        for index in written..<chunks.count { chunks[index].deallocate() }
        unsafe request.deallocate()
    }

    var isEmpty: Bool { written == chunks.count }

    /// Bytes that are not yet in libuv's hands.
    private(set) var waitingByteCount = 0

    /// Puts `bytes` behind what is here: a copy, unless they are enough of `array`'s that it is kept for them. Where
    /// the last chunk has room for all of them they are copied, or each small piece between arrays would have a chunk.
    func append(_ bytes: Span<UInt8>, of array: [UInt8]?) {
        waitingByteCount += bytes.count
        let last = chunks.count - 1
        let room = last >= written + inFlight ? chunks[last].room : 0
        if let array, room < bytes.count, Connection.isKept(bytes.count, of: array) {
            return chunks.append(Chunk(keeping: bytes, of: array))
        }
        if room > 0 { chunks[last].append(bytes.extracting(first: room)) }
        let rest = bytes.extracting(droppingFirst: room)
        guard !rest.isEmpty else { return }
        let isBehindArray = chunks.last?.kept != nil
        var chunk = Chunk(capacity: max(isBehindArray ? Self.chunkSizeBehindArray : Self.chunkSize, rest.count))
        chunk.append(rest)
        chunks.append(chunk)
    }

    /// Gives the first chunks to libuv. `done` runs later and calls `wrote()`, whatever came of it.
    func write(
        to stream: UnsafeMutablePointer<uv_stream_t>, _ done: @escaping uv_write_cb
    ) -> CInt {
        var buffers = unsafe [uv_buf_t]()
        var count = 0
        for chunk in chunks[written...].prefix(Self.chunksPerWrite) where count < Self.bytesPerWrite {
            unsafe buffers.append(chunk.buffer)
            count += chunk.count
        }
        unsafe inFlight = buffers.count
        waitingByteCount -= count
        // Retain 2, released by the `takeRetainedValue` in `done`.
        unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        return unsafe uv_write(request, stream, buffers, CUnsignedInt(inFlight), done)
    }

    /// libuv is through with what it was given.
    func wrote() {
        for index in written..<written + inFlight { chunks[index].deallocate() }
        written += inFlight
        inFlight = 0
        if written * 2 > chunks.count {
            chunks.removeFirst(written)
            written = 0
        }
    }
}
