import Foundation

extension Run {
    /// Resident memory may grow so much between the second fifth of the time and the last.
    private static let mostSoakGrowth = 1 << 20

    static let soak = Run(name: "soak", summary: "all kinds of clients at once, for ten minutes") { trial in
        trial.load = "mixed for \(trial.soakTime)"
        let server = try trial.server(["--kernel-buffers", "262144"])
        let port = server.port
        let goesOn = Shared(true)
        let honest = Worker { [seed = trial.seed] in Honest(port, seed: seed) { goesOn.value } }
        let workers = Mix.allCases.enumerated().map { number, kind in
            let random = trial.random(UInt64(number))
            return Worker { Mixed(kind, port, random) { goesOn.value } }
        }
        let growth = try watchMemory(server, trial)
        goesOn.value = false
        trial.growth = growth
        if !trial.isSmall {
            trial.expect(growth < mostSoakGrowth, "memory has grown by \(growth) bytes")
        }
        let result = honest.wait()
        for failure in result.failures { try trial.lose(failure) }
        var accepted = 1
        for worker in workers {
            let mixed = worker.wait()
            if let failure = mixed.failure { try trial.lose(failure) }
            accepted += mixed.connections
        }
        trial.tell("\(accepted.grouped) connections")
        trial.tell("\(result.requests.grouped) honest requests, p99 \(Int(result.p99)) µs")
        try trial.settle(server, accepted: accepted, causes: ["peerReset"], limit: .seconds(20))
    }

    /// How much the memory has grown: the least of the last fifth, less the least of the second.
    private static func watchMemory(_ server: ServerProcess, _ trial: Trial) throws -> Int {
        var (early, late): ([Int], [Int]) = ([], [])
        let start = ContinuousClock.now
        while ContinuousClock.now - start < trial.soakTime {
            let part = (ContinuousClock.now - start) / trial.soakTime
            let bytes = try server.residentBytes()
            if (0.2..<0.4).contains(part) { early.append(bytes) }
            if part >= 0.8 { late.append(bytes) }
            trial.progress("\(Int(part * 100)) %")
            pause(.milliseconds(100))
        }
        return (late.min() ?? 0) - (early.min() ?? 0)
    }

    /// What kinds of clients there are.
    enum Mix: CaseIterable, Sendable {
        case brief, bulk, resetting, dripping, neverReading
    }

    /// One kind of client, again and again.
    struct Mixed: Sendable {
        private(set) var connections = 0
        private(set) var failure: String?
        private var random: SplitMix

        private static let dripping = 200
        private static let gluttons = 20

        init(_ kind: Mix, _ port: UInt16, _ random: SplitMix, while goesOn: () -> Bool) {
            self.random = random
            do {
                switch kind {
                case .brief: try comeAndGo(port, goesOn)
                case .bulk: try exchangeMuch(port, goesOn)
                case .resetting: try reset(port, goesOn)
                case .dripping: try drip(port, goesOn)
                case .neverReading: try neverRead(port, goesOn)
                }
            } catch {
                failure = "\(kind): \(error)"
            }
        }

        private mutating func comeAndGo(_ port: UInt16, _ goesOn: () -> Bool) throws {
            while goesOn() {
                let pattern = Pattern(seed: random.next())
                let size = Int.random(in: 1...20_000, using: &random)
                connections += 1
                try Client.visit(port, pattern, size: size, source: 2 + connections % Run.sources)
                pause(.microseconds(200))
            }
        }

        private mutating func exchangeMuch(_ port: UInt16, _ goesOn: () -> Bool) throws {
            while goesOn() {
                connections += 1
                let client = try Client(port: port)
                let pattern = Pattern(seed: random.next())
                var position = 0
                for _ in 0..<50 where goesOn() {
                    let count = Int.random(in: 1...2_000_000, using: &random)
                    try client.exchange(pattern, from: position, count: count)
                    position += count
                    pause(.milliseconds(10))
                }
                try client.halfClose()
                try client.receiveEnd()
            }
        }

        private mutating func reset(_ port: UInt16, _ goesOn: () -> Bool) throws {
            while goesOn() {
                connections += 1
                try Client.resetting(port, &random)
                pause(.milliseconds(1))
            }
        }

        private mutating func drip(_ port: UInt16, _ goesOn: () -> Bool) throws {
            let crowd = try Crowd(port, count: Self.dripping, seed: random.next())
            connections += Self.dripping
            let drip = Drip(crowd)
            while goesOn() { drip.turn() }
            drip.finish()
            crowd.closeAll()
            if drip.lost > 0 { throw ClientError(call: drip.failure ?? "\(drip.lost) bytes", errno: EPROTO) }
        }

        private mutating func neverRead(_ port: UInt16, _ goesOn: () -> Bool) throws {
            while goesOn() {
                let crowd = try Crowd(port, count: Self.gluttons, seed: random.next(), kernelBuffers: 16_384)
                connections += Self.gluttons
                let glut = Glut(crowd)
                glut.fill()
                for _ in 0..<500 where goesOn() { glut.turn() }
                if let failure = glut.readBack() { throw ClientError(call: failure, errno: EPROTO) }
            }
        }
    }
}
