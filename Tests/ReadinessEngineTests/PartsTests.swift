import Glibc
import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel
@testable import ReadinessEngine

@Suite struct `The parts of the readiness engine` {
    @Test func `a number's next owner does not get its former owner's events`() {
        var table = SourceTable()
        defer { table.deallocate() }
        let first = table.enter(5, .counter)
        #expect(table.source(of: first) != nil)
        table.leave(first)
        #expect(table.source(of: first) == nil)
        let second = table.enter(5, .counter)
        #expect(table.source(of: first) == nil)
        #expect(table.source(of: second) != nil)
        // Far away numbers make room without losing anyone.
        let far = table.enter(10_000, .counter)
        #expect(table.source(of: second) != nil && table.source(of: far) != nil)
    }

    @Test(arguments: [
        (0, 0, 0), (0, 1, 1), (1, 1, 1), (999_999, 1, 1), (1_000_000, 1, 0), (5_000_000, 1, 0), (1, 3, 3),
        (1_500_000, 3, 2), (0, Int(Int32.max) + 10, Int(Int32.max)), (0, Int.max, Int(Int32.max)),
    ])
    func `a sleep is never shorter than the time to the deadline`(now: Int, deadline: Int, expected: Int) {
        #expect(milliseconds(from: UInt64(now), until: UInt64(deadline)) == Int32(expected))
    }

    @Test func `a token is its two halves`() {
        for (descriptor, generation) in [(0, 0), (7, 1), (Int32.max, UInt32.max)] as [(Int32, UInt32)] {
            let token = Token(descriptor: descriptor, generation: generation)
            #expect(token.descriptor == descriptor && token.generation == generation)
            #expect(Token(bits: token.bits) == token)
        }
    }

    @Test func `a write queue gives back what it was given, however little the kernel takes`() throws {
        let (descriptor, reader) = try PlainClient.pair(isBlocking: false)
        defer { close(descriptor) }
        var queue = WriteQueue()
        var expected: [UInt8] = []
        // Pieces that share blocks, fill one to the byte, need their own, and are kept.
        for (seed, count) in [1, 63, 65_472, 1, 100_000, 65_536, 3, 1_500_000, 2_000, 5, 1_024].enumerated() {
            let piece = pseudoRandomBytes(count: count, seed: UInt64(seed))
            queue.append(piece.span, of: seed.isMultiple(of: 2) ? piece : nil)
            expected += piece
            #expect(queue.byteCount == expected.count)
        }
        var received: [UInt8] = []
        while !queue.isEmpty {
            let before = queue.byteCount
            let sent = queue.send(to: descriptor)
            try #require(sent > 0 || sent == -Int(EAGAIN))
            #expect(queue.byteCount == before - max(0, sent))
            if sent > 0 { received += try reader.receive(exactly: sent) }
            // Behind what is sent already; bounded, should the kernel take less than comes.
            guard expected.count < 5_000_000 else { continue }
            for seed in 0..<50 as Range<UInt64> {
                let piece = pseudoRandomBytes(count: seed % 5 == 0 ? 100 : 1_024, seed: seed)
                queue.append(piece.span, of: piece)
                expected += piece
            }
        }
        #expect(received.count == expected.count && memcmp(received, expected, expected.count) == 0)
    }

    @Test func `one call takes what the socket has room for, in however many pieces`() throws {
        let (descriptor, reader) = try PlainClient.pair(isBlocking: false)
        defer { close(descriptor) }
        var queue = WriteQueue()
        for number in 0..<3_000 {
            let piece = [UInt8](repeating: UInt8(number & 0xFF), count: 1_024)
            queue.append(piece.span, of: piece)
        }
        // At a MiB or a thousand pieces a call ends; the socket has room for less.
        let sent = queue.send(to: descriptor)
        #expect(sent > 100 * 1_024)
        _ = try reader.receive(exactly: sent)
        // The rest is let go of with the queue, half sent.
        #expect(queue.byteCount == 3_000 * 1_024 - sent)
    }
}
