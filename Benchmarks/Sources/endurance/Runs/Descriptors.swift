import Foundation

extension Run {
    private static let descriptorLimit = 64
    private static let clients = 200
    /// Of one processor, with no descriptor left.
    private static let mostExhaustedCPU = 0.05
    private static let longestRecovery: Duration = .milliseconds(100)

    static let descriptors = Run(
        name: "descriptors", summary: "200 clients at a limit of 64 descriptors, again and again"
    ) { trial in
        let rounds = trial.size(50, small: 2)
        trial.load = "\(clients) clients at \(descriptorLimit), \(rounds) times"
        let server = try trial.server(["--descriptors", "\(descriptorLimit)"])
        var crowd = Exhaustion(server, trial)
        for round in 0..<rounds {
            trial.progress("round \(round) of \(rounds)")
            try crowd.play(clients)
        }
        let share = crowd.cpuTime / crowd.watched
        trial.tell("\(crowd.servedCount.grouped) served, \(crowd.shedCount.grouped) shed")
        trial.tell(String(format: "CPU %.1f %%", share * 100))
        trial.expect(share <= mostExhaustedCPU, "\(share * 100) % of a processor without descriptors")
        let times = crowd.recoveries.map { $0 / .milliseconds(1) }
        trial.tell(String(format: "recovery %.0f ms (at most %.0f)", times.median, times.max() ?? 0))
        if !trial.isSmall {
            trial.expect(
                crowd.recoveries.allSatisfy { $0 < longestRecovery }, "a recovery took \(times.max() ?? 0) ms")
        }
        try trial.settle(server, accepted: crowd.servedCount, causes: ["peerReset"])
    }

    /// More clients than the server has descriptors for.
    struct Exhaustion {
        private let server: ServerProcess
        private let trial: Trial
        private(set) var servedCount = 0
        private(set) var shedCount = 0
        private(set) var recoveries: [Duration] = []
        private(set) var cpuTime = Duration.zero
        private(set) var watched = Duration.zero

        private static let watch: Duration = .milliseconds(400)

        init(_ server: ServerProcess, _ trial: Trial) {
            self.server = server
            self.trial = trial
        }

        mutating func play(_ count: Int) throws {
            var served: [Client] = []
            for client in try (0..<count).map({ _ in try Client(port: server.port) }) where try isServed(client) {
                served.append(client)
            }
            trial.expect(!served.isEmpty && served.count < Run.descriptorLimit, "\(served.count) are served at once")
            try expectTold()
            let before = try server.cpuTime()
            let start = ContinuousClock.now
            pause(Self.watch)
            watched += ContinuousClock.now - start
            cpuTime += try server.cpuTime() - before
            if let leaving = served.popLast() { served.append(try replace(leaving)) }
            for client in served { client.close() }
            _ = try server.countsAtRest()
            try expectTold()
        }

        /// Closes one client; how long it takes until a new one is served.
        private mutating func replace(_ leaving: Client) throws -> Client {
            leaving.close()
            let start = ContinuousClock.now
            while true {
                let client = try Client(port: server.port)
                guard try isServed(client) else { continue }
                recoveries.append(ContinuousClock.now - start)
                return client
            }
        }

        /// Whether an answer comes, rather than the end.
        private mutating func isServed(_ client: Client) throws -> Bool {
            do {
                try client.send([7])
                if try client.receiveSome().elementsEqual([7]) {
                    servedCount += 1
                    return true
                }
            } catch let error as ClientError where error.errno == ECONNRESET || error.errno == EPIPE {}
            shedCount += 1
            return false
        }

        /// The server has counted as many as were turned away.
        private func expectTold() throws {
            let shed = try server.counts().shed
            trial.expect(
                shed == ["descriptorLimit": shedCount], "\(shedCount) were turned away, and the server tells \(shed)")
        }
    }
}
