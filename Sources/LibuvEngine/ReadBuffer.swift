internal import CLibuv

/// The buffer into which all streams of a loop read, one after the other, and how often one has filled it in this turn.
///
/// The loop's `data` points here, so that the allocation callback finds it without a look at any object.
@safe struct ReadBuffer {
    /// What libuv may read into. Its length is 0 for the one allocation that ends a stream's turn.
    private(set) var lent: uv_buf_t
    private let size: Int
    /// A stream's turn ends with this many reads that fill the buffer.
    private let readsPerTurn: Int
    private var fullReads = 0
    /// The stream whose reads are counted.
    private var reader: UnsafeMutablePointer<uv_stream_t>?
    /// Tells when a turn of the loop begins. Started by the first read that fills the buffer.
    private let turnHandle: UnsafeMutablePointer<uv_prepare_t>

    /// libuv itself goes on to the next stream after this many reads (`uv__read`).
    private static let readsOfLibuv = 32

    init(size: Int, readsPerTurn: Int, turnHandle: UnsafeMutablePointer<uv_prepare_t>) {
        unsafe self.turnHandle = turnHandle
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        unsafe lent = uv_buf_t(base: memory.bindMemory(to: CChar.self, capacity: size), len: size)
        self.size = size
        self.readsPerTurn = readsPerTurn
    }

    func deallocate() {
        unsafe UnsafeMutableRawPointer(lent.base).deallocate()
    }

    /// The whole buffer, also while libuv may not read into it.
    var whole: UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(start: lent.base, count: size)
    }

    /// A read of more bytes than this has filled the buffer and is counted.
    var mostUncounted: UInt32 {
        readsPerTurn < Self.readsOfLibuv ? UInt32(size) - 1 : UInt32(Int32.max)
    }

    /// Whether libuv may not read into it, so that the turn of the stream that asks is over.
    var isTurnOver: Bool { unsafe lent.len == 0 }

    /// `stream` has filled the buffer and goes on reading. If it has had its turn, nothing is lent: libuv then leaves
    /// the rest to the next turn (UV_ENOBUFS; libuv documentation, `uv_alloc_cb`).
    mutating func wasFilled(by stream: UnsafeMutablePointer<uv_stream_t>) {
        if unsafe stream != reader {
            if unsafe reader == nil { unsafe uv_prepare_start(turnHandle, LibuvLoop.turnBegan) }
            unsafe reader = stream
            fullReads = 0
        }
        fullReads += 1
        if fullReads >= readsPerTurn { unsafe lent.len = 0 }
    }

    /// The next stream's turn begins.
    mutating func lendAgain() {
        unsafe lent.len = size
        unsafe reader = nil
    }

    /// A new turn of the loop begins.
    mutating func turnBegan() {
        unsafe reader = nil
    }
}

/// The buffer of the loop, to which its `data` points.
@inline(__always)
func readBuffer(of loop: UnsafeMutablePointer<uv_loop_t>?) -> UnsafeMutablePointer<ReadBuffer> {
    unsafe loop.unsafelyUnwrapped.pointee.data.unsafelyUnwrapped.assumingMemoryBound(to: ReadBuffer.self)
}

@inline(__always)
func lendBuffer(
    _ handle: UnsafeMutablePointer<uv_handle_t>?, _: Int, _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
    unsafe buffer.unsafelyUnwrapped.initialize(to: readBuffer(of: handle.unsafelyUnwrapped.pointee.loop).pointee.lent)
}
