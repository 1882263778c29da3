import Foundation

extension Run {
    static let slowReaders = Run(
        name: "slow-readers",
        summary: "clients that read a little at a time, and some that stop, with time-outs of seconds"
    ) { trial in
        // More than the kernel holds, so that those that stop owe the server something.
        let size = trial.size(8_000_000, small: 6_000_000)
        let path = NSTemporaryDirectory() + "endurance-\(getpid())-\(trial.engine.rawValue)"
        let server = try trial.server([
            "--feed", "\(size)", "--unix-path", path, "--feed-idle", trial.isSmall ? "1" : "3",
        ])
        guard let port = server.feedPort else { throw ClientError(call: "the port that feeds", errno: EPROTO) }
        let pace = trial.isSmall ? 100 : 1
        let buffers: Int32? = trial.isSmall ? nil : 8_192
        let tcp = try [20_000, 40_000, 200_000].map { rate in
            SlowReader("\(rate) B/s", try Client(port: port, kernelBuffers: buffers), rate * pace, size)
        }
        let unix = try [40_000, 200_000].map { rate in
            SlowReader("\(rate) B/s from a Unix socket", try Client(unixPath: path), rate * pace, size)
        }
        let stopping = try [Client(port: port, kernelBuffers: buffers), Client(unixPath: path)].map { client in
            SlowReader("one that stops", client, 200_000, size, stopsAfter: size / 10)
        }
        let readers = tcp + unix + stopping
        trial.load = "\(size.grouped) bytes to \(readers.count) readers"
        while readers.contains(where: { !$0.isThrough }) {
            pause(SlowReader.tick)
            for reader in readers where !reader.isThrough {
                if let failure = reader.turn() { try trial.lose("\(reader.name): \(failure)") }
            }
            trial.progress("\(readers.map(\.received).reduce(0, +).grouped) bytes")
        }
        trial.tell("\((tcp + unix).map(\.received).reduce(0, +).grouped) bytes read in whole")
        // Those that stopped are still open here, or were ended already; the server ends them.
        _ = try server.countsAtRest(within: .seconds(20))
        for reader in stopping { trial.expect(reader.wasEnded(), "a reader that stopped was not ended") }
        try trial.settle(server, accepted: readers.count, causes: ["localClose", "timedOut(idle)", "timedOut(write)"])
    }
}

/// A client that reads a fixed count of bytes in each tick.
final class SlowReader {
    let name: String
    private let client: Client
    private let bytesPerTick: Int
    private let size: Int
    private let stopsAfter: Int?
    private let pattern = Pattern(seed: EchoServer.feedSeed)
    private(set) var received = 0
    private(set) var isThrough = false

    static let tick: Duration = .milliseconds(50)
    private static let ticksPerSecond = 20

    init(_ name: String, _ client: Client, _ bytesPerSecond: Int, _ size: Int, stopsAfter: Int? = nil) {
        self.name = name
        self.client = client
        bytesPerTick = bytesPerSecond / Self.ticksPerSecond
        self.size = size
        self.stopsAfter = stopsAfter
    }

    /// Reads its share, and ends when all is there. What went wrong, if anything did.
    func turn() -> String? {
        do {
            var left = bytesPerTick
            while left > 0, received < size, let bytes = try client.receiveWithoutWaiting(atMost: left) {
                guard !bytes.isEmpty else { return lost("the end came after \(received) bytes") }
                guard pattern.matches(bytes, at: received) else { return lost("byte \(received) or one behind it") }
                received += bytes.count
                left -= bytes.count
            }
            if let stopsAfter, received >= stopsAfter { isThrough = true }
            guard received == size else { return nil }
            isThrough = true
            try client.receiveEnd()
            client.close()
            return nil
        } catch {
            return lost("\(error) after \(received) bytes")
        }
    }

    /// Goes away with bytes unread, which the server sees as a reset.
    func leave() { client.close() }

    private func lost(_ what: String) -> String {
        isThrough = true
        return what
    }

    /// Whether the server has ended the connection before all was read: with a reset, which a Unix socket has not.
    func wasEnded() -> Bool {
        do {
            while case let bytes = try client.receiveSome(), !bytes.isEmpty { received += bytes.count }
            return received < size
        } catch {
            return true
        }
    }
}
