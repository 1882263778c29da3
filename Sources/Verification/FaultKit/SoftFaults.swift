package import ParityKit

/// Faults that must change nothing: scenarios with them and without, then echo traffic.
package struct SoftFaults {
    private let participant: Participant
    private let library: FaultLibrary
    private let seed: UInt64

    package init(participant: Participant, library: FaultLibrary, seed: UInt64) {
        self.participant = participant
        self.library = library
        self.seed = seed
    }

    /// About one call in so many meets a fault.
    private static let every = 2

    /// Plays each of `scenarios`.
    package func play(_ scenarios: [Scenario], _ progress: (String) -> Void, _ result: inout FaultResult) {
        for (index, scenario) in scenarios.enumerated() {
            progress("\(index + 1) of \(scenarios.count) scenarios: \(scenario.name)")
            play(scenario, seed, "--scenario \(scenario.name)", &result)
        }
    }

    /// Plays random scenarios.
    package func play(random count: Int, _ progress: (String) -> Void, _ result: inout FaultResult) {
        for offset in 0..<UInt64(count) {
            if offset.isMultiple(of: 50) { progress("\(offset) of \(count) random scenarios") }
            play(.random(seed: seed &+ offset), seed &+ offset, "--random 1", &result)
        }
    }

    private func play(_ scenario: Scenario, _ seed: UInt64, _ selection: String, _ result: inout FaultResult) {
        let plan = FaultPlan.soft(seed: seed, every: Self.every)
        let hit = library.hitting(participant, plan, named: "\(participant.name) with faults")
        let report = Parity.run(scenario, on: [participant, hit], isAlone: true)
        result.played += 1
        for divergence in report.divergences {
            result.failures.append(
                FaultResult.Failure(text: "\(divergence)", repetition: "\(selection) --seed \(seed)"))
        }
    }

    /// Echo traffic until there were `count` faults in all.
    package func echo(
        until count: UInt64, _ progress: @escaping @Sendable (String) -> Void, _ result: inout FaultResult
    ) {
        guard library.injected < count else { return }
        let library = library
        let echo = BulkEcho(
            participant: participant, library: library, plan: .soft(seed: seed, every: Self.every), seed: seed,
            target: count)
        let findings = echo.run { progress("echo: \(library.injected) of \(count) faults, \($0)") }
        result.bytes = findings.bytes
        result.lost = findings.lost
        result.longestStall = findings.longestStall
        for text in findings.failures {
            result.failures.append(FaultResult.Failure(text: text, repetition: "--count \(count) --seed \(seed)"))
        }
    }
}
