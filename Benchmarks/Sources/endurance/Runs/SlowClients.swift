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
        let accepted = try Comparison(server, trial).measure { drip.turn() }
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
        let accepted = try Comparison(server, trial).measure { glut.turn() }
        let growth = try server.residentBytes() - before
        trial.growth = growth
        trial.expect(!glut.isBottomless, "the server has taken all that was to be sent")
        trial.expect(growth < count * Glut.mostBytesEach, "memory has grown by \(growth) bytes")
        trial.tell("\(glut.sent >> 20) MiB sent")
        // Half of them read it all at last, the others never do.
        if let failure = glut.readBack() { try trial.lose(failure) }
        try trial.settle(server, accepted: count + accepted, causes: ["peerReset"], limit: .seconds(20))
    }

    /// The honest client beside the crowd, and on a server of its own, in turns, so that what else the machine does
    /// falls on both.
    struct Comparison {
        private let server: ServerProcess
        private let base: ServerProcess
        private let trial: Trial
        private let windows: Int
        private let window: Duration

        init(_ server: ServerProcess, _ trial: Trial) throws {
            self.server = server
            self.trial = trial
            base = try trial.idleServer()
            windows = trial.isSmall ? 2 : 15
            window = trial.isSmall ? .milliseconds(300) : .seconds(2)
        }

        /// Calls `load` again and again in the loaded turns. Gives how many connections the server has had from here.
        func measure(_ load: () -> Void) throws -> Int {
            defer { base.kill() }
            var (alone, beside): ([Double], [Double]) = ([], [])
            for number in 0..<windows {
                trial.progress("turn \(number + 1) of \(windows)")
                alone.append(try turn(base.port, Self.noLoad))
                beside.append(try turn(server.port, load))
            }
            let ratio = beside.median / alone.median
            trial.tell(
                String(
                    format: "honest p99 %.0f µs (%.0f to %.0f), alone %.0f µs (%.0f to %.0f), ratio %.2f",
                    beside.median, beside.min() ?? 0, beside.max() ?? 0, alone.median, alone.min() ?? 0,
                    alone.max() ?? 0, ratio))
            if !trial.isSmall {
                trial.expect(ratio <= mostSlowdown, "the honest client's p99 is \(ratio) times what it is alone")
            }
            return windows
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
