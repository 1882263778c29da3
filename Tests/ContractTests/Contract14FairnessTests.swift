import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(10)))
struct `Contract 14: fairness` {
    /// api.md: one connection gets at most so many reads a turn.
    static let readsPerTurn = 32
    /// Each at most what the loop's buffer holds, in bytes.
    static let bytesPerRead = 64 * 1024

    @Test(arguments: Engine.allCases)
    func `a flooding peer gets 32 reads a turn, and a quiet one is served beside it`(engine: Engine) throws {
        var reads = ReadCounter()
        let isEnough = Flag()
        let stage = try Stage(engine)
        let flooded = try stage.loop.listen { connection in
            connection.onData = { _, bytes in
                reads.count(bytes.count)
                if reads.total > 32 << 20 { isEnough.set() }
                // Slower than the peer sends, so that there is always more to read.
                compute(for: .microseconds(50))
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
        #expect(reads.longest <= Self.bytesPerRead)
        // Otherwise the flood was none, and the test shows nothing.
        #expect(reads.most > 1)
    }

    @Test(arguments: Engine.allCases)
    func `two flooding peers take turns`(engine: Engine) throws {
        var order: [Int] = []
        var connectionCount = 0
        let stage = try Stage(engine) { connection in
            let index = connectionCount
            connectionCount += 1
            connection.onData = { _, _ in
                order.append(index)
                compute(for: .microseconds(50))
            }
        }
        let floods = try (0..<2).map { _ in try Flood(port: stage.port) }
        try stage.run(until: { order.count > 2_000 && Set(order).count == 2 })
        for flood in floods { flood.stop() }
        try stage.run(until: { floods.allSatisfy { $0.isFinished } && stage.listener.connectionCount == 0 })
        // From where both are read, neither gets more than a turn's reads at a time, as long as the other has sent
        // something; a sender that the machine's scheduler leaves waiting may miss a turn or two.
        let start = max(order.firstIndex(of: 0) ?? 0, order.firstIndex(of: 1) ?? 0)
        let runs = lengthsOfRuns(order[start...])
        #expect(runs.filter { $0 <= Self.readsPerTurn }.count > runs.count / 2, "\(runs)")
    }
}

/// Counts the reads between two turns.
private struct ReadCounter {
    private(set) var most = 0
    private(set) var longest = 0
    private(set) var total = 0
    private var inThisTurn = 0

    mutating func count(_ length: Int) {
        inThisTurn += 1
        longest = max(longest, length)
        total += length
        most = max(most, inThisTurn)
    }

    mutating func turn() { inThisTurn = 0 }
}

/// How often each number stands behind itself without another between.
private func lengthsOfRuns(_ numbers: ArraySlice<Int>) -> [Int] {
    var runs: [Int] = []
    var last: Int?
    for number in numbers {
        if number == last { runs[runs.count - 1] += 1 } else { runs.append(1) }
        last = number
    }
    return runs
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
