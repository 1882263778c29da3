import CallbackServer
import Glibc
import TestSupport
import Testing

/// A message that goes to many is in memory once, however many of them are slow.
@Suite(.timeLimit(.minutes(20)))
struct `One message to many` {
    /// In a process of its own, whose memory nobody else changes.
    @Test(arguments: Engine.allCases)
    func `is stored once, and is what it was when it was written`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let crowd = try Crowd(engine, count: 64)
            let size = 1 << 20
            // First a small one, so that the message is queued behind a copy, or is the first in the queue.
            for (connection, _) in crowd.members.prefix(32) { connection.write([UInt8](repeating: 7, count: 300_000)) }
            var message = pseudoRandomBytes(count: size, seed: 1)
            let original = message
            let before = try residentBytes()
            for (connection, _) in crowd.members { connection.write(message) }
            let queued = crowd.members.reduce(0) { $0 + $1.0.bufferedByteCount }
            try #require(queued > crowd.members.count * size / 2)
            let growth = try residentBytes() - before
            #expect(growth < queued / 4, "\(queued) bytes are queued")
            // The writer's own from here on.
            for index in message.indices { message[index] = 0xEE }
            let peers = crowd.members.map(\.1)
            let received = onThread {
                try peers.enumerated().allSatisfy { index, peer in
                    if index < 32 { _ = try peer.receive(exactly: 300_000) }
                    let bytes = try peer.receive(exactly: size)
                    return memcmp(bytes, original, size) == 0
                }
            }
            try crowd.loop.run(until: { received.isFinished })
            #expect(try received.value(timeLimit: .seconds(1)))
            withExtendedLifetime(message) {}
        }
    }

    /// Connections over pairs of Unix sockets, and the other ends.
    private final class Crowd {
        let loop: EventLoop
        private(set) var members: [(Connection, PlainClient)] = []

        init(_ engine: Engine, count: Int) throws {
            loop = try EventLoop(engine: engine)
            for _ in 0..<count {
                var ends: [Int32] = [-1, -1]
                let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
                try #require(socketpair(AF_UNIX, type, 0, &ends) == 0)
                members.append((try loop.adopt(connected: ends[0]), PlainClient(adopting: ends[1])))
            }
        }
    }
}

/// `EventLoop.Options.readBufferSize`.
@Suite(.timeLimit(.minutes(20)))
struct `The read buffer` {
    @Test(arguments: Engine.allCases, [1_024, 4_096, 65_536, 1 << 20])
    func `is as large as asked for, and nothing is lost`(engine: Engine, size: Int) throws {
        var options = EventLoop.Options()
        options.readBufferSize = size
        let loop = try EventLoop(engine: engine, options: options)
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        let peer = PlainClient(adopting: ends[1])
        let message = pseudoRandomBytes(count: 100_000, seed: UInt64(size))
        let connection = try loop.adopt(connected: ends[0])
        var received: [UInt8] = []
        var largest = 0
        connection.onData = { _, bytes in
            received += copy(bytes)
            largest = max(largest, bytes.count)
        }
        // All of it is there before the first read: a Unix socket takes so much (wmem_default, 212,992).
        try peer.send(message)
        peer.close()
        try loop.run()
        #expect(received.count == message.count && memcmp(received, message, message.count) == 0)
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
