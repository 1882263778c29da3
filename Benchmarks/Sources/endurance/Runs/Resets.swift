import Foundation

extension Run {
    private static let stormThreads = 2

    static let resets = Run(
        name: "resets", summary: "clients that reset, at any moment, beside an honest one"
    ) { trial in
        let count = trial.size(200_000, small: 2_000)
        trial.load = "\(count.grouped) resets"
        let server = try trial.server()
        let port = server.port
        let goesOn = Shared(true)
        let honest = Worker { [seed = trial.seed] in Honest(port, seed: seed) { goesOn.value } }
        let done = Shared(0)
        let failures = Shared<[String]>([])
        let storm = (0..<stormThreads).map { number in
            let random = trial.random(UInt64(number))
            return Worker { resetClients(port, count / stormThreads, random, done, failures) }
        }
        while done.value < count / stormThreads * stormThreads, failures.value.isEmpty {
            trial.progress("\(done.value.grouped) of \(count.grouped)")
            pause(.milliseconds(10))
        }
        for worker in storm { worker.wait() }
        goesOn.value = false
        for failure in failures.value { try trial.lose("a client that resets: \(failure)") }
        let result = honest.wait()
        for failure in result.failures { try trial.lose(failure) }
        trial.tell("\(result.requests.grouped) honest requests, p99 \(Int(result.p99)) µs")
        try trial.settle(server, accepted: count / stormThreads * stormThreads + 1, causes: ["peerReset"])
    }

    @Sendable private static func resetClients(
        _ port: UInt16, _ count: Int, _ random: SplitMix, _ done: Shared<Int>, _ failures: Shared<[String]>
    ) {
        var random = random
        for _ in 0..<count {
            do {
                try Client.resetting(port, &random)
            } catch {
                failures.value.append("\(error)")
                return
            }
            done.add()
        }
    }
}

extension Client {
    /// Connects and resets: at once, with bytes on the way, with an answer on the way, or with much of it unread.
    static func resetting(_ port: UInt16, _ random: inout SplitMix) throws {
        let client = try Client(port: port)
        let pattern = Pattern(seed: random.next())
        switch Int.random(in: 0..<4, using: &random) {
        case 0: break
        case 1: try client.send(pattern.array(Int.random(in: 1...4_096, using: &random)))
        case 2:
            try client.send(pattern.array(64))
            try client.receive(pattern.array(64))
            try client.send(pattern.array(1_000))
        default: _ = try client.sendSome(pattern.bytes(at: 0, count: Pattern.period), waits: false)
        }
        client.reset()
    }
}
