internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

/// What the kernel did not take: blocks of bytes, sent from the front and filled at the back.
///
/// Exists only while something is queued.
@safe struct WriteQueue: ~Copyable {
    /// 64 KiB: small pieces share blocks of this size; a larger piece has a block of its own.
    private static let blockSize = 64 * 1024
    /// So many blocks go into one system call: 1 MiB keeps it busy, and IOV_MAX is far (writev(2)).
    private static let blocksPerCall = 16

    @safe private struct Block {
        // Allocated in `makeBlock`, given back in `deallocate`; or the bytes of an array.
        let base: UnsafeMutablePointer<UInt8>
        let capacity: Int
        var start = 0
        var end = 0
        /// They stay where they are for as long as it is here: who writes to another reference of it gets a copy.
        var kept: [UInt8]?

        func deallocate() {
            if kept == nil { unsafe base.deallocate() }
        }
    }

    private var blocks: [Block] = []
    private(set) var byteCount = 0

    var isEmpty: Bool { byteCount == 0 }

    deinit {
        for block in blocks { block.deallocate() }
    }

    /// Puts `bytes` behind what is here: a copy, unless they are enough of `array`'s that it is kept for them.
    mutating func append(_ bytes: Span<UInt8>, of array: [UInt8]?) {
        byteCount += bytes.count
        if let array, Connection.isKept(bytes.count, of: array) {
            let base = unsafe bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
            return unsafe blocks.append(
                Block(base: .init(mutating: base), capacity: bytes.count, end: bytes.count, kept: array))
        }
        unsafe bytes.withUnsafeBufferPointer { source in
            var position = 0
            while position < source.count {
                if blocks.isEmpty || blocks[blocks.count - 1].end == blocks[blocks.count - 1].capacity {
                    blocks.append(Self.makeBlock(for: source.count - position))
                }
                let last = blocks.count - 1
                let count = min(source.count - position, blocks[last].capacity - blocks[last].end)
                unsafe (blocks[last].base + blocks[last].end).update(
                    from: source.baseAddress.unsafelyUnwrapped + position, count: count)
                blocks[last].end += count
                position += count
            }
        }
    }

    private static func makeBlock(for count: Int) -> Block {
        let capacity = max(blockSize, count)
        return unsafe Block(base: .allocate(capacity: capacity), capacity: capacity)
    }

    /// One system call with the front of the queue: how many bytes have left, or a negative errno.
    mutating func send(to descriptor: Int32) -> Int {
        let sent = unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.blocksPerCall) { pieces in
            let count = min(blocks.count, Self.blocksPerCall)
            for index in 0..<count {
                let block = blocks[index]
                unsafe pieces[index] = iovec(iov_base: block.base + block.start, iov_len: block.end - block.start)
            }
            return unsafe Kernel.send(descriptor, UnsafeMutableBufferPointer(rebasing: pieces[..<count]))
        }
        if sent > 0 { removeFront(sent) }
        return sent
    }

    private mutating func removeFront(_ count: Int) {
        byteCount -= count
        var left = count
        var finished = 0
        while left > 0 {
            let size = blocks[finished].end - blocks[finished].start
            if left < size {
                blocks[finished].start += left
                break
            }
            left -= size
            blocks[finished].deallocate()
            finished += 1
        }
        blocks.removeFirst(finished)
    }
}
