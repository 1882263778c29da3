import CallbackServer
import Foundation

extension Run {
    /// A queue that does not move is shed after ten looks, a second apart; the first look finds nothing to compare
    /// with.
    private static let mostUntilShed: Duration = .seconds(15)
    /// What the honest clients wait for an answer.
    private static let mostForAnswer: Duration = .milliseconds(100)

    static let overload = Run(
        name: "overload", summary: "slow downloads that fill a loop's queues, and honest clients"
    ) { trial in
        // Of each, the kernel's buffers take from 2 to 5 MB. The queues hold between three quarters of the limit and
        // all of it, whatever the kernel takes; and in memory the bytes are once.
        let (downloads, size, limit) = (64, 20_000_000, 1_200_000_000)
        let honest = 50
        trial.load = "\(downloads) downloads, \(honest) honest"
        let path = NSTemporaryDirectory() + "endurance-\(getpid())-\(trial.engine.rawValue)"
        let server = try trial.server([
            "--feed", "\(size)", "--unix-path", path, "--feed-idle", "120", "--feed-write", "120", "--idle", "3",
            "--max-queued", "\(limit)",
        ])
        guard let port = server.feedPort else { throw ClientError(call: "the port that feeds", errno: EPROTO) }
        let before = try server.residentBytes()
        let dead = try Client(port: port)
        let readers = try (0..<downloads).map { SlowReader("download \($0)", try Client(port: port), 200_000, size) }
        let goesOn = Shared(true)
        let asking = Worker { [echo = server.port] in AskingClients(echo, count: honest) { goesOn.value } }
        let start = ContinuousClock.now
        var growth = 0
        // On for a while without the one that is shed.
        var end = start + mostUntilShed
        var shedAfter: Duration?
        while ContinuousClock.now < end {
            pause(SlowReader.tick)
            for reader in readers {
                if let failure = reader.turn() { try trial.lose("\(reader.name): \(failure)") }
            }
            growth = max(growth, try server.residentBytes() - before)
            if shedAfter == nil, try server.counts().closed["shed"] != nil {
                shedAfter = .now - start
                end = ContinuousClock.now + .seconds(trial.isSmall ? 1 : 10)
            }
            trial.progress("\(readers.map(\.received).reduce(0, +).grouped) bytes")
        }
        goesOn.value = false
        let answers = asking.wait()
        for failure in answers.failures { try trial.lose(failure) }
        judge(trial, answers, shedAfter, try server.counts())
        trial.growth = growth
        trial.expect(growth < limit, "memory has grown by \(growth) bytes")
        for reader in readers { reader.leave() }
        dead.close()
        try trial.settle(server, accepted: downloads + 1 + honest, causes: ["shed", "peerReset"])
    }

    private static func judge(_ trial: Trial, _ answers: AskingClients, _ shedAfter: Duration?, _ counts: ServerCounts)
    {
        let longest = String(format: "%.1f", answers.longest.seconds * 1_000)
        trial.tell("\(answers.count.grouped) answers, none after more than \(longest) ms")
        if !trial.isSmall {
            trial.expect(answers.longest <= mostForAnswer, "an answer came after \(longest) ms")
        }
        if let shedAfter {
            trial.tell(String(format: "shed after %.1f s", shedAfter.seconds))
        } else {
            trial.expect(false, "the client that does not read was not shed within \(mostUntilShed)")
        }
        trial.expect(
            Array(counts.overload.prefix(2)) == ["began", "shed(1)"],
            "the loop has told \(counts.overload), and closed \(counts.closed)")
    }
}

/// Clients in one thread that ask in turn, each for one answer at a time.
private struct AskingClients: Sendable {
    private(set) var count = 0
    private(set) var longest = Duration.zero
    private(set) var failures: [String] = []

    /// Between two questions.
    private static let interval: Duration = .milliseconds(1)
    private static let size = 64

    init(_ port: UInt16, count clientCount: Int, while goesOn: () -> Bool) {
        do {
            let clients = try (0..<clientCount).map { _ in try Client(port: port) }
            let pattern = Pattern(seed: 1)
            while goesOn() {
                for client in clients {
                    let payload = ArraySlice(pattern.bytes(at: count * Self.size, count: Self.size))
                    let start = ContinuousClock.now
                    try client.send(payload)
                    try client.receive(payload)
                    longest = max(longest, .now - start)
                    count += 1
                    pause(Self.interval)
                }
            }
            for client in clients {
                try client.halfClose()
                try client.receiveEnd()
            }
        } catch {
            failures.append("honest request \(count): \(error)")
        }
    }
}
