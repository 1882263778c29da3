import Glibc

extension PlainClient {
    /// Sends `total` pseudo-random bytes and receives them back at once, checking each.
    ///
    /// Both directions are served as they become ready, so that a peer which stops reading while its own
    /// answers are not read does not stand still. The time limit is for a standstill, not for the whole.
    ///
    /// - Parameters:
    ///   - total: bytes in each direction.
    ///   - chunk: the most bytes in one send or receive.
    ///   - seed: which stream; two clients with different seeds notice each other's bytes.
    public func echoExactly(_ total: Int, chunk: Int = 65_536, seed: UInt64 = 1) throws {
        let stream = PeriodicStream(longestWindow: chunk, seed: seed)
        var room = [UInt8](repeating: 0, count: chunk)
        var sent = 0
        var received = 0
        var deadline = Deadline(in: timeLimit)
        while received < total {
            var moved = false
            if sent < total {
                let size = min(chunk, total - sent)
                let count = try stream.withWindow(at: sent, count: size) { try sendNow($0) }
                sent += count ?? 0
                moved = count != nil
            }
            let count = try room.withUnsafeMutableBytes { room -> Int? in
                let part = UnsafeMutableRawBufferPointer(rebasing: room[..<min(chunk, total - received)])
                guard let count = try receiveNow(part) else { return nil }
                try stream.check(UnsafeRawBufferPointer(rebasing: room[..<count]), at: received)
                return count
            }
            if let count {
                guard count > 0 else {
                    throw unexpected("the end of input came", "byte \(received) of \(total), \(sent) sent")
                }
                received += count
                moved = true
            }
            if moved {
                deadline = Deadline(in: timeLimit)
            } else {
                let events = sent < total ? POLLIN | POLLOUT : POLLIN
                let waitedFor = "byte \(received) of \(total), \(sent) sent"
                try awaitReadiness(events, until: deadline, "echo", waitedFor)
            }
        }
    }
}

/// A long stream of bytes made of one block, over and over.
private struct PeriodicStream {
    /// A prime, in bytes: bytes that are moved by any multiple of a buffer's size no longer match.
    private static let period = 1_048_573

    /// One period, and as much of the next as a window at its end needs.
    private let block: [UInt8]

    init(longestWindow: Int, seed: UInt64) {
        precondition(longestWindow > 0, "a chunk of \(longestWindow) bytes moves nothing")
        var block = pseudoRandomBytes(count: Self.period, seed: seed)
        while block.count < Self.period + longestWindow {
            block += block[..<min(Self.period, Self.period + longestWindow - block.count)]
        }
        self.block = block
    }

    func withWindow<Answer>(
        at offset: Int, count: Int, _ body: (UnsafeRawBufferPointer) throws -> Answer
    ) rethrows -> Answer {
        let start = offset % Self.period
        return try block.withUnsafeBytes { block in
            try body(UnsafeRawBufferPointer(rebasing: block[start..<start + count]))
        }
    }

    /// Throws at the first byte that differs.
    func check(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        try withWindow(at: offset, count: bytes.count) { expected in
            // An empty piece has no address to compare.
            guard bytes.count > 0 else { return }
            if memcmp(bytes.baseAddress!, expected.baseAddress!, bytes.count) == 0 { return }
            let index = bytes.indices.first { bytes[$0] != expected[$0] }!
            throw PeerError(
                call: "echo", cause: .unexpected("byte \(offset + index) is \(bytes[index])"),
                waitedFor: "\(expected[index])")
        }
    }
}
