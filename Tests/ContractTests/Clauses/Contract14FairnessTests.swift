import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 14: fairness` {
    /// api.md: one connection gets at most so many reads a turn.
    static let readsPerTurn = 32
    /// 2 MiB: no read follows those that have brought so much.
    static let bytesPerTurn = 2 << 20

    @Test(arguments: Engine.allCases, [16 << 10, EventLoop.Options().readBufferSize, 4 << 20])
    func `a flooding peer gets 32 reads and 2 MiB a turn, and a quiet one is served beside it`(
        engine: Engine, bufferSize: Int
    ) throws {
        var reads = ReadCounter()
        let isEnough = Flag()
        var options = EventLoop.Options()
        options.readBufferSize = bufferSize
        let stage = try Stage(engine, loop: options)
        var large = Listener.Options()
        large.connection.receiveBufferSize = 4 << 20
        let flooded = try stage.loop.listen(options: large) { [unowned loop = stage.loop] connection in
            // More than a turn's reads wait in the kernel when the first turn begins.
            connection.pause()
            resumeWhenFull(connection, loop)
            connection.onData = { _, bytes in
                reads.count(bytes.count)
                if reads.total > 32 << 20 { isEnough.set() }
                // Slower than the peer sends, so that there is always more to read.
                compute(for: .microseconds(bytes.count >> 8))
            }
        }
        let quiet = try stage.loop.listen { echo($0) }
        let counter = TurnCounter(stage.loop)
        counter.onTurn = { _ in reads.turn() }
        let flood = try Flood(port: flooded.port)
        let client = try PlainClient(port: quiet.port)
        let peer = onThread {
            defer { flood.stop() }
            var rounds = 0
            while rounds < 50 || !isEnough.isSet {
                rounds += 1
                try client.send("still there?")
                let back = try client.receive(exactly: 12)
                #expect(back == Array("still there?".utf8))
            }
            client.close()
        }
        try stage.run(until: {
            peer.isFinished && flood.isFinished && quiet.connectionCount + flooded.connectionCount == 0
        })
        counter.stop()
        try peer.value()
        #expect(reads.most <= Self.readsPerTurn)
        #expect(reads.longest <= bufferSize)
        #expect(reads.mostBytes < Self.bytesPerTurn + bufferSize)
        // Otherwise the flood was none, and the test shows nothing.
        if bufferSize < Self.bytesPerTurn { #expect(reads.mostBytes > bufferSize) }
    }
}

/// Counts the reads between two turns.
private struct ReadCounter {
    private(set) var most = 0
    private(set) var longest = 0
    private(set) var total = 0
    private(set) var mostBytes = 0
    private var inThisTurn = 0
    private var bytesInThisTurn = 0

    mutating func count(_ length: Int) {
        inThisTurn += 1
        longest = max(longest, length)
        total += length
        bytesInThisTurn += length
        most = max(most, inThisTurn)
        mostBytes = max(mostBytes, bytesInThisTurn)
    }

    mutating func turn() { (inThisTurn, bytesInThisTurn) = (0, 0) }
}

/// Lets the kernel's receive buffer fill, until nothing has been added for a while, before it is read.
private func resumeWhenFull(_ connection: Connection, _ loop: EventLoop) {
    var last: Int32 = 0
    var unchanged = 0
    loop.schedule(after: .zero, repeating: .milliseconds(2)) { timer in
        var waiting: Int32 = 0
        // How many bytes a read would give (tcp(7)).
        _ = ioctl(connection.descriptor, UInt(FIONREAD), &waiting)
        unchanged = waiting > 0 && waiting == last ? unchanged + 1 : 0
        last = waiting
        guard unchanged == 10 else { return }
        timer.cancel()
        connection.resume()
    }
}

/// A peer that sends as fast as it can until it is told to stop.
private final class Flood: Sendable {
    private let client: PlainClient
    private let thread: RunningThread<Void>
    private let stopping: Flag

    init(port: UInt16) throws {
        let client = try PlainClient(port: port)
        let stopping = Flag()
        self.client = client
        self.stopping = stopping
        thread = onThread {
            let piece = [UInt8](repeating: 0x66, count: 256 * 1024)
            while !stopping.isSet { try client.send(piece) }
            client.close()
        }
    }

    var isFinished: Bool { thread.isFinished }

    func stop() { stopping.set() }
}
