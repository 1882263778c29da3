import ParityKit

/// Scenarios by name: a row for each, a column for each engine.
struct TableRun {
    let scenarios: [Scenario]
    let participants: [Participant]
    let isJSON: Bool

    /// The least width of a column.
    private static let columnWidth = 12
    private var columnWidth: Int {
        participants.reduce(Self.columnWidth) { max($0, $1.name.count + 2) }
    }

    /// Plays all; whether nothing differed.
    func run() -> Bool {
        let start = ContinuousClock.now
        let nameWidth = (scenarios.map(\.name.count).max() ?? 0) + 2
        if !isJSON {
            let names = participants.map { $0.name.padded(to: columnWidth) }.joined()
            Terminal.printLine("scenario".padded(to: nameWidth) + names)
        }
        var reports: [Report] = []
        var leftOut: [(scenario: String, obstacle: String)] = []
        for (index, scenario) in scenarios.enumerated() {
            if let obstacle = participants.obstacle(to: scenario) {
                leftOut.append((scenario.name, obstacle))
                if !isJSON { Terminal.printLine(scenario.name.padded(to: nameWidth) + "left out: \(obstacle)") }
                continue
            }
            Terminal.progress("\(index + 1) of \(scenarios.count): \(scenario.name)")
            let report = Parity.run(scenario, on: participants, isAlone: true)
            reports.append(report)
            Terminal.progress("")
            if !isJSON { Terminal.printLine(row(report, nameWidth)) }
        }
        let different = reports.filter { !$0.isEqual }
        let time = ContinuousClock.now - start
        if isJSON {
            printJSON(reports, leftOut, time)
        } else {
            for divergence in different.first?.divergences ?? [] { Terminal.printLine("\n\(divergence)") }
            Terminal.printLine(
                "\n\(reports.count) scenarios on \(participants.engineCount) engines, "
                    + "\(different.count) with a divergence, " + (leftOut.isEmpty ? "" : "\(leftOut.count) left out, ")
                    + "in \(time.milliseconds) ms")
        }
        return different.isEmpty
    }

    private func row(_ report: Report, _ width: Int) -> String {
        let cells = report.outcomes.map { outcome in
            let isWell = !report.divergences.contains { $0.participant == outcome.participant }
            return (isWell ? "\(outcome.duration.milliseconds) ms" : "DIFFERS").padded(to: columnWidth)
        }
        return report.scenario.padded(to: width) + cells.joined()
    }

    private func printJSON(
        _ reports: [Report], _ leftOut: [(scenario: String, obstacle: String)], _ time: Duration
    ) {
        let entries = reports.map { report in
            let outcomes = report.outcomes.map { outcome in
                let divergences = report.divergences.filter { $0.participant == outcome.participant }
                let texts = divergences.map { "\($0)".json }.joined(separator: ",")
                return "{\"engine\":\(outcome.participant.json),\"milliseconds\":\(outcome.duration.milliseconds),"
                    + "\"divergences\":[\(texts)]}"
            }
            return "{\"scenario\":\(report.scenario.json),\"outcomes\":[\(outcomes.joined(separator: ","))]}"
        }
        let obstacles = leftOut.map { "{\"scenario\":\($0.scenario.json),\"reason\":\($0.obstacle.json)}" }
        let isWell = reports.allSatisfy(\.isEqual)
        Terminal.printLine(
            "{\"equal\":\(isWell),\"milliseconds\":\(time.milliseconds),"
                + "\"leftOut\":[\(obstacles.joined(separator: ","))],"
                + "\"scenarios\":[\(entries.joined(separator: ","))]}"
        )
    }
}

extension [Participant] {
    /// Why one of them cannot play a scenario; `nil` if all can.
    func obstacle(to scenario: Scenario) -> String? {
        lazy.compactMap { $0.form.obstacle(to: scenario) }.first
    }

    /// How many engines they are: one may play in two forms.
    var engineCount: Int { Set(map { $0.name.prefix { $0 != " " } }).count }
}
