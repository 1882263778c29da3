import Foundation

extension Run {
    /// The honest client's p99 may be so many times what it is without the others.
    private static let mostSlowdown = 2.0

    static let drip = Run(name: "drip", summary: "clients of one byte a second, beside an honest one") { trial in
        let count = trial.size(5_000, small: 300, select: 900)
        trial.load = "\(count.grouped) of one byte a second"
        let server = try trial.server()
        let crowd = try Crowd(server.port, count: count, seed: trial.seed) { trial.progress("\($0.grouped) connected") }
        let drip = Drip(crowd)
        let accepted = try Comparison(server, count, trial).measure { drip.turn() }
        drip.finish()
        trial.lose(count: drip.lost, drip.failure ?? "bytes that did not come back")
        trial.tell("\(drip.sent.grouped) bytes")
        crowd.closeAll()
        try trial.settle(server, accepted: count + accepted, causes: [])
    }

    static let neverReading = Run(
        name: "never-reading", summary: "clients that send and never read, beside an honest one"
    ) { trial in
        let count = trial.size(1_000, small: 100, select: 900)
        trial.load = "\(count.grouped) that never read"
        let server = try trial.server(["--kernel-buffers", "65536"])
        let before = try server.residentBytes()
        let crowd = try Crowd(server.port, count: count, seed: trial.seed, kernelBuffers: 16_384)
        let glut = Glut(crowd)
        glut.fill()
        let accepted = try Comparison(server, count, trial).measure { glut.turn() }
        let growth = try server.residentBytes() - before
        trial.growth = growth
        trial.expect(!glut.isBottomless, "the server has taken all that was to be sent")
        trial.expect(growth < count * Glut.mostBytesEach, "memory has grown by \(growth) bytes")
        trial.tell("\(glut.sent >> 20) MiB sent")
        // Half of them read it all at last, the others never do.
        if let failure = glut.readBack() { try trial.lose(failure) }
        try trial.settle(server, accepted: count + accepted, causes: ["peerReset"], limit: .seconds(20))
    }

    /// The honest client beside the crowd; alone on a server; and on one where as many others are at rest. In turns, so
    /// that what else the machine does falls on all three.
    struct Comparison {
        private let server: ServerProcess
        private let lonely: ServerProcess
        private let crowded: ServerProcess
        private let crowd: Crowd
        private let trial: Trial
        private let windows: Int
        private let window: Duration

        init(_ server: ServerProcess, _ count: Int, _ trial: Trial) throws {
            self.server = server
            self.trial = trial
            lonely = try trial.idleServer()
            crowded = try trial.idleServer()
            crowd = try Crowd(crowded.port, count: count, seed: trial.seed)
            windows = trial.isSmall ? 2 : 15
            window = trial.isSmall ? .milliseconds(200) : .seconds(2)
        }

        /// Calls `load` again and again in the loaded turns. Gives how many connections the server has had from here.
        func measure(_ load: () -> Void) throws -> Int {
            defer {
                lonely.kill()
                crowded.kill()
            }
            var (alone, atRest, beside): ([Double], [Double], [Double]) = ([], [], [])
            for number in 0..<windows {
                trial.progress("turn \(number + 1) of \(windows)")
                alone.append(try turn(lonely.port, Self.noLoad))
                atRest.append(try turn(crowded.port, Self.noLoad))
                beside.append(try turn(server.port, load))
            }
            trial.tell(
                "honest p99 \(describe(beside)) µs, others at rest \(describe(atRest)), alone \(describe(alone))")
            judge(beside.median / alone.median, beside.median / atRest.median)
            return windows
        }

        private func describe(_ times: [Double]) -> String {
            String(format: "%.0f (%.0f to %.0f)", times.median, times.min() ?? 0, times.max() ?? 0)
        }

        /// poll(2) and select(2) look at every connection in each wait, also at those at rest: it is their price, and
        /// no fault of slow clients. The other two have to bear the comparison with a server that nobody else uses.
        private func judge(_ toAlone: Double, _ toAtRest: Double) {
            trial.tell(String(format: "ratio %.2f, to alone %.2f", toAtRest, toAlone))
            guard !trial.isSmall else { return }
            let ratio =
                switch trial.engine {
                case .libuv, .epoll: toAlone
                case .poll, .select: toAtRest
                }
            trial.expect(ratio <= mostSlowdown, "the honest client's p99 is \(ratio) times what it is without them")
        }

        private static func noLoad() { pause(.milliseconds(1)) }

        private func turn(_ port: UInt16, _ load: () -> Void) throws -> Double {
            let goesOn = Shared(true)
            let worker = Worker { [seed = trial.seed] in Honest(port, seed: seed) { goesOn.value } }
            let end = ContinuousClock.now + window
            while ContinuousClock.now < end { load() }
            goesOn.value = false
            let result = worker.wait()
            for failure in result.failures { try trial.lose(failure) }
            return result.p99
        }
    }
}
