import CallbackServer
import Glibc
import TestSupport
import Testing

/// A message that goes to many is in memory once, however many of them are slow. In processes of their own, whose
/// memory nobody else changes.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `One message to many` {
    @Test(arguments: Engine.allCases)
    func `is stored once, and is what it was when it was written`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let crowd = try Crowd(engine, count: 64)
            // Small ones first, so that the message is queued behind a copy, or is the first in the queue.
            let (before, size) = (300_001, 1 << 20)
            for (connection, _) in crowd.members.prefix(32) { connection.write(letters(before, "b").span) }
            let resident = try residentBytes()
            crowd.write(size)
            let queued = crowd.members.reduce(0) { $0 + $1.0.bufferedByteCount }
            try #require(queued > crowd.members.count * size / 2)
            let growth = try residentBytes() - resident
            #expect(isSanitized || growth < queued / 4, "\(queued) bytes are queued")
            // Where it is there would now be others, if nobody kept it.
            let others = (0..<8).map { _ in letters(size, "o") }
            let peers = crowd.members.map(\.1)
            let received = onThread {
                let (small, large) = (letters(before, "b"), letters(size, "m"))
                return try peers.enumerated().allSatisfy { index, peer in
                    let isBehind = try index >= 32 || isEqual(peer.receive(exactly: before), small)
                    return try isBehind && isEqual(peer.receive(exactly: size), large)
                }
            }
            try crowd.loop.run(until: { received.isFinished })
            #expect(try received.value(timeLimit: .seconds(1)))
            withExtendedLifetime(others) {}
        }
    }

    @Test(arguments: Engine.allCases)
    func `costs no more memory than a copy, with small pieces between or unused room behind`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let crowd = try Crowd(engine, count: 2)
            for ((connection, _), isTrimmed) in zip(crowd.members, [false, true]) {
                connection.write(letters(1 << 20, "b").span)
                let (resident, queued) = (try residentBytes(), connection.bufferedByteCount)
                for _ in 0..<2_000 {
                    var frame = letters(isTrimmed ? 1 << 18 : 1_024, "m")
                    frame.removeLast(frame.count - 1_024)
                    if !isTrimmed { connection.write("0123456789") }
                    connection.write(frame)
                }
                let growth = try residentBytes() - resident
                #expect(isSanitized || growth < 2 * (connection.bufferedByteCount - queued), "\(isTrimmed): \(growth)")
            }
        }
    }

    /// Connections over pairs of Unix sockets, and the other ends.
    private final class Crowd {
        let loop: EventLoop
        private(set) var members: [(Connection, PlainClient)] = []

        init(_ engine: Engine, count: Int) throws {
            loop = try EventLoop(engine: engine)
            for _ in 0..<count {
                let (descriptor, peer) = try PlainClient.pair()
                members.append((try loop.adopt(connected: descriptor), peer))
            }
        }

        /// One array to all. Nobody else has it when this returns.
        func write(_ size: Int) {
            let message = letters(size, "m")
            for (index, (connection, _)) in members.enumerated() {
                if index.isMultiple(of: 2) { connection.write(message) } else { connection.write(message) { _ in } }
            }
        }
    }
}

private func letters(_ count: Int, _ letter: Unicode.Scalar) -> [UInt8] {
    [UInt8](repeating: UInt8(ascii: letter), count: count)
}

/// `EventLoop.Options.readBufferSize`.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The read buffer` {
    @Test(arguments: Engine.allCases, [1_024, 4_096, 65_536, 1 << 20])
    func `is as large as asked for, and nothing is lost`(engine: Engine, size: Int) throws {
        var options = EventLoop.Options()
        options.readBufferSize = size
        let loop = try EventLoop(engine: engine, options: options)
        let (descriptor, peer) = try PlainClient.pair()
        let message = pseudoRandomBytes(count: 100_000, seed: UInt64(size))
        let connection = try loop.adopt(connected: descriptor)
        var received: [UInt8] = []
        var largest = 0
        connection.onData = { _, bytes in
            received += [UInt8](copying: bytes)
            largest = max(largest, bytes.count)
        }
        // All of it is there before the first read: a Unix socket takes so much (wmem_default, 212,992).
        try peer.send(message)
        peer.close()
        try loop.run()
        #expect(isEqual(received, message))
        #expect(largest == min(size, message.count))
    }

    @Test(arguments: Engine.allCases, [Int.min, -1, 0, 1_023, (1 << 24) + 1, Int.max])
    func `of a size out of bounds is refused by its value`(engine: Engine, size: Int) throws {
        var options = EventLoop.Options()
        options.readBufferSize = size
        let error = #expect(throws: IOError.self) { try EventLoop(engine: engine, options: options) }
        #expect(error?.name == "EINVAL")
        #expect(error?.detail?.contains("readBufferSize \(size)") == true)
    }
}
