internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// What the kernel did not take: chunks of bytes, some of them in libuv's hands, the rest waiting behind.
///
/// Exists only while something is queued. libuv reads the chunks in flight until its callback, so this object
/// lives until then, also when the stream is closed first.
@safe final class PendingWrites {
    /// The stream to tell. It lives as long: libuv calls back for every write before it does for the close.
    unowned let stream: LibuvStream

    /// 64 KiB: small pieces behind a queue share chunks of this size.
    private static let chunkSize = 64 * 1024
    /// As many chunks as one `uv_write` takes: 16 × 64 KiB keep a system call busy.
    private static let chunksPerWrite = 16

    @safe private struct Chunk {
        private(set) var count = 0
        let capacity: Int
        // Allocated in `init`, given back in `deallocate`; or the bytes of an array.
        private let base: UnsafeMutablePointer<UInt8>
        /// They stay where they are for as long as it is here: who writes to another reference of it gets a copy.
        private let kept: [UInt8]?

        init(capacity: Int) {
            self.capacity = capacity
            unsafe base = .allocate(capacity: capacity)
            kept = nil
        }

        /// `bytes` of `array`, and no room for others.
        init(keeping bytes: Span<UInt8>, of array: [UInt8]) {
            count = bytes.count
            capacity = bytes.count
            unsafe base = bytes.withUnsafeBufferPointer { unsafe .init(mutating: $0.baseAddress.unsafelyUnwrapped) }
            kept = array
        }

        mutating func append(_ bytes: Span<UInt8>) {
            precondition(bytes.count <= capacity - count)
            unsafe bytes.withUnsafeBufferPointer { source in
                guard let start = source.baseAddress else { return }
                unsafe (base + count).update(from: start, count: source.count)
            }
            count += bytes.count
        }

        var buffer: uv_buf_t {
            unsafe uv_buf_t(base: UnsafeMutableRawPointer(base).assumingMemoryBound(to: CChar.self), len: count)
        }

        func deallocate() {
            if kept == nil { unsafe base.deallocate() }
        }
    }

    private var chunks: [Chunk] = []
    /// How many chunks at the front libuv is writing; it must not see them move or grow.
    private var inFlight = 0
    private let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)

    init(stream: LibuvStream) {
        self.stream = stream
    }

    deinit {
        for chunk in chunks { chunk.deallocate() }
        unsafe request.deallocate()
    }

    var isEmpty: Bool { chunks.isEmpty }

    /// Bytes that are not yet in libuv's hands.
    private(set) var waitingByteCount = 0

    /// Puts `bytes` behind what is here: a copy, unless they are enough of `array`'s that it is kept for them.
    func append(_ bytes: Span<UInt8>, of array: [UInt8]?) {
        waitingByteCount += bytes.count
        if let array, Connection.isKept(bytes.count, of: array) {
            return chunks.append(Chunk(keeping: bytes, of: array))
        }
        var rest = bytes
        if chunks.count > inFlight, let last = chunks.indices.last {
            let room = min(chunks[last].capacity - chunks[last].count, rest.count)
            chunks[last].append(rest.extracting(first: room))
            rest = rest.extracting(droppingFirst: room)
        }
        guard !rest.isEmpty else { return }
        var chunk = Chunk(capacity: max(Self.chunkSize, rest.count))
        chunk.append(rest)
        chunks.append(chunk)
    }

    /// Gives the first chunks to libuv. `done` runs later and calls `wrote()`, whatever came of it.
    func write(
        to stream: UnsafeMutablePointer<uv_stream_t>, _ done: @escaping uv_write_cb
    ) -> CInt {
        inFlight = min(chunks.count, Self.chunksPerWrite)
        // Retain 2, released by the `takeRetainedValue` in `done`.
        unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let buffers = unsafe chunks[..<inFlight].map { unsafe $0.buffer }
        waitingByteCount = chunks[inFlight...].reduce(0) { $0 + $1.count }
        return unsafe uv_write(request, stream, buffers, CUnsignedInt(inFlight), done)
    }

    /// libuv is through with what it was given.
    func wrote() {
        for chunk in chunks[..<inFlight] { chunk.deallocate() }
        chunks.removeFirst(inFlight)
        inFlight = 0
    }
}
