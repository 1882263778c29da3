import ParityKit

/// Scenarios by name: a row for each, a column for each engine.
struct TableRun {
    let scenarios: [Scenario]
    let participants: [Participant]
    let isJSON: Bool

    private static let columnWidth = 12

    /// Plays all; whether nothing differed.
    func run() -> Bool {
        let start = ContinuousClock.now
        let nameWidth = (scenarios.map(\.name.count).max() ?? 0) + 2
        if !isJSON {
            let names = participants.map { $0.name.padded(to: Self.columnWidth) }.joined()
            Terminal.printLine("scenario".padded(to: nameWidth) + names)
        }
        var reports: [Report] = []
        for (index, scenario) in scenarios.enumerated() {
            Terminal.progress("\(index + 1) of \(scenarios.count): \(scenario.name)")
            let report = Parity.run(scenario, on: participants, isAlone: true)
            reports.append(report)
            Terminal.progress("")
            if !isJSON { Terminal.printLine(row(report, nameWidth)) }
        }
        let different = reports.filter { !$0.isEqual }
        let time = ContinuousClock.now - start
        if isJSON {
            printJSON(reports, time)
        } else {
            for divergence in different.first?.divergences ?? [] { Terminal.printLine("\n\(divergence)") }
            Terminal.printLine(
                "\n\(reports.count) scenarios on \(participants.count) engines, \(different.count) with a divergence, "
                    + "in \(time.milliseconds) ms")
        }
        return different.isEmpty
    }

    private func row(_ report: Report, _ width: Int) -> String {
        let cells = report.outcomes.map { outcome in
            let isWell = !report.divergences.contains { $0.participant == outcome.participant }
            return (isWell ? "\(outcome.duration.milliseconds) ms" : "DIFFERS").padded(to: Self.columnWidth)
        }
        return report.scenario.padded(to: width) + cells.joined()
    }

    private func printJSON(_ reports: [Report], _ time: Duration) {
        let entries = reports.map { report in
            let outcomes = report.outcomes.map { outcome in
                let divergences = report.divergences.filter { $0.participant == outcome.participant }
                let texts = divergences.map { "\($0)".json }.joined(separator: ",")
                return "{\"engine\":\(outcome.participant.json),\"milliseconds\":\(outcome.duration.milliseconds),"
                    + "\"divergences\":[\(texts)]}"
            }
            return "{\"scenario\":\(report.scenario.json),\"outcomes\":[\(outcomes.joined(separator: ","))]}"
        }
        let isWell = reports.allSatisfy(\.isEqual)
        Terminal.printLine(
            "{\"equal\":\(isWell),\"milliseconds\":\(time.milliseconds),"
                + "\"scenarios\":[\(entries.joined(separator: ","))]}"
        )
    }
}
