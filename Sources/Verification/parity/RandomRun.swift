import ParityKit

/// Random scenarios by seed; the first divergence is shrunk and printed as Swift.
struct RandomRun {
    let count: Int
    let seed: UInt64
    let participants: [Participant]
    let isJSON: Bool

    /// Plays all, until one differs; whether none did.
    func run() -> Bool {
        let start = ContinuousClock.now
        var differing: (seed: UInt64, report: Report)?
        var (played, leftOut) = (0, 0)
        for offset in 0..<UInt64(count) {
            if offset.isMultiple(of: 50) { Terminal.progress("\(offset) of \(count) random scenarios") }
            let scenario = Scenario.random(seed: seed &+ offset)
            if participants.obstacle(to: scenario) != nil {
                leftOut += 1
                continue
            }
            let report = Parity.run(scenario, on: participants, isAlone: true)
            played += 1
            guard report.isEqual else {
                differing = (seed &+ offset, report)
                break
            }
        }
        Terminal.progress("")
        let time = ContinuousClock.now - start
        let summary =
            "\(played) random scenarios from seed \(seed) on \(participants.engineCount) engines"
            + (leftOut == 0 ? "" : ", \(leftOut) left out")
        guard let differing else {
            Terminal.printLine(
                isJSON
                    ? "{\"equal\":true,\"played\":\(played),\"leftOut\":\(leftOut),\"seed\":\(seed),"
                        + "\"milliseconds\":\(time.milliseconds)}"
                    : "\(summary), no divergence, in \(time.milliseconds) ms")
            return true
        }
        let short = shorten(.random(seed: differing.seed), differing.report)
        let divergences = differing.report.divergences.map { "\($0)" }
        if isJSON {
            let texts = divergences.map(\.json).joined(separator: ",")
            Terminal.printLine(
                "{\"equal\":false,\"played\":\(played),\"seed\":\(differing.seed),\"divergences\":[\(texts)],"
                    + "\"swift\":\(short.swiftSource.json)}")
        } else {
            for divergence in divergences { Terminal.printLine(divergence) }
            Terminal.printLine("\n\(summary): seed \(differing.seed) differs. As Swift, shortened:\n")
            Terminal.printLine(short.swiftSource)
        }
        return false
    }

    /// The expectation is of the whole scenario; a shortened one has to be told apart by the engines.
    private func shorten(_ scenario: Scenario, _ report: Report) -> Scenario {
        func isTold(_ report: Report) -> Bool {
            report.divergences.contains { $0.reference != nil && $0.reference != "expected" }
        }
        guard isTold(report) else { return scenario }
        return Shrinking.shrink(scenario) { isTold(Parity.run($0, on: participants)) }
    }
}
