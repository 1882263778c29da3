extension Run {
    /// How many addresses of this host the clients come from: 64 × 28,232 ports are more than close in a minute.
    static let sources = 64

    /// Resident memory may grow so much from 20 % of the connections to all of them.
    private static let mostGrowth = 1 << 20

    static let connections = Run(name: "connections", summary: "one after another: connect, one echo, close") { trial in
        let count = trial.size(1_000_000, small: 2_000)
        trial.load = "\(count.grouped) in a row"
        let server = try trial.server()
        var early = 0
        let start = ContinuousClock.now
        for number in 0..<count {
            if number == count / 5 { early = try server.residentBytes() }
            do {
                let pattern = Pattern(seed: trial.seed &+ UInt64(number))
                try Client.visit(server.port, pattern, source: 2 + number % sources)
            } catch {
                try trial.lose("connection \(number): \(error)")
            }
            trial.progress("\(number.grouped) of \(count.grouped)")
        }
        let time = (ContinuousClock.now - start).seconds
        let growth = try server.residentBytes() - early
        trial.growth = growth
        trial.expect(growth < mostGrowth, "memory has grown by \(growth) bytes since 20 %")
        trial.tell("\(Int(Double(count) / time).grouped) connections a second")
        let counts = try server.countsAtRest()
        let bytes = UInt64((count + Trial.warmUps) * 64)
        trial.expect(
            counts.bytesIn == bytes && counts.bytesOut == bytes,
            "\(counts.bytesIn) bytes came in and \(counts.bytesOut) went out, not \(bytes)")
        try trial.settle(server, accepted: count, causes: [])
    }
}
