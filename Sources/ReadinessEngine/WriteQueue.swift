internal import CLinux
internal import CallbackModel
internal import Glibc

/// What the kernel did not take: blocks of bytes, sent from the front and filled at the back.
///
/// Exists only while something is queued.
@safe struct WriteQueue: ~Copyable {
    /// 64 KiB: small pieces share blocks of this size. A larger piece has a block of its own. Behind an array, where
    /// another array may follow, 4 KiB.
    private static let (blockSize, blockSizeBehindArray) = (64 * 1024, 4 * 1024)
    /// 1 MiB keeps a system call busy.
    private static let bytesPerCall = 1 << 20
    /// IOV_MAX, the most that one call takes (writev(2)).
    private static let blocksPerCall = 1_024

    @safe private struct Block {
        // Allocated in `makeBlock`, given back in `deallocate` or with the queue. Or the bytes of `kept`.
        let base: UnsafeMutablePointer<UInt8>
        let capacity: Int
        var start = 0
        var end = 0
        /// The array whose bytes these are. Held here, it never moves: a write to another reference makes a copy.
        var kept: [UInt8]?

        mutating func deallocate() {
            if kept == nil { unsafe base.deallocate() }
            kept = nil
        }
    }

    private var blocks: [Block] = []
    /// How many at the front are sent. They are removed when they are half, so that each costs constant time.
    private var finished = 0
    private(set) var byteCount = 0

    var isEmpty: Bool { byteCount == 0 }

    deinit {
        // The finished ones are deallocated already.
        for block in blocks[finished...] where block.kept == nil { unsafe block.base.deallocate() }
    }

    /// Puts `bytes` behind what is here. They are copied, unless they are enough of `array` for it to be kept. What
    /// fits into the last block is always copied, or each small piece between arrays would have a block.
    mutating func append(_ bytes: Span<UInt8>, of array: [UInt8]?) {
        byteCount += bytes.count
        let room = finished == blocks.count ? 0 : blocks[blocks.count - 1].capacity - blocks[blocks.count - 1].end
        if let array, room < bytes.count, Connection.isKept(bytes.count, of: array) {
            let base = unsafe bytes.withUnsafeBufferPointer { unsafe $0.baseAddress.unsafelyUnwrapped }
            return unsafe blocks.append(
                Block(base: .init(mutating: base), capacity: bytes.count, end: bytes.count, kept: array))
        }
        unsafe bytes.withUnsafeBufferPointer { source in
            var position = 0
            while position < source.count {
                if finished == blocks.count || blocks[blocks.count - 1].end == blocks[blocks.count - 1].capacity {
                    blocks.append(makeBlock(for: source.count - position))
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

    private func makeBlock(for count: Int) -> Block {
        let isBehindArray = blocks.last?.kept != nil
        let capacity = max(isBehindArray ? Self.blockSizeBehindArray : Self.blockSize, count)
        return unsafe Block(base: .allocate(capacity: capacity), capacity: capacity)
    }

    /// One system call with the front of the queue. Returns how many bytes have left, or a negative errno.
    mutating func send(to descriptor: Int32) -> Int {
        let most = min(blocks.count - finished, Self.blocksPerCall)
        let sent = unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: most) { pieces in
            var (count, size) = (0, 0)
            while count < most, size < Self.bytesPerCall {
                let block = blocks[finished + count]
                unsafe pieces[count] = iovec(iov_base: block.base + block.start, iov_len: block.end - block.start)
                size += block.end - block.start
                count += 1
            }
            return unsafe Kernel.send(descriptor, UnsafeMutableBufferPointer(rebasing: pieces[..<count]))
        }
        if sent > 0 { removeFront(sent) }
        return sent
    }

    private mutating func removeFront(_ count: Int) {
        byteCount -= count
        var left = count
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
        if finished * 2 > blocks.count {
            blocks.removeFirst(finished)
            finished = 0
        }
    }
}
