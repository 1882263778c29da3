import CallbackServer
import FaultKit
import Glibc
import ParityKit

/// What the process of one engine does; `FaultsRun` reads its lines: `~` before progress, `=` before its row.
struct FaultsOfOneEngine {
    let engine: Engine
    let library: FaultLibrary
    let selection: FaultSelection

    /// So many failures are printed: one fault often shows many times.
    private static let mostFailures = 3

    /// Runs; whether all is well.
    func run() -> Bool {
        var result = FaultResult()
        switch selection.mode {
        case .soft: runSoft(&result)
        case .hard: runHard(&result)
        }
        result.counts = library.counts
        for failure in result.failures.prefix(Self.mostFailures) {
            Terminal.printLine(failure.text)
            Terminal.printLine(
                "  again: parity --faults \(selection.mode.rawValue) --engine \(engine.rawValue) \(failure.repetition)")
        }
        let faults = result.counts.map { "\($0.kind) \($0.count)" }.joined(separator: ", ")
        Terminal.printLine("\(engine.rawValue): \(faults)")
        let cells = [
            "\(result.injected)", "\(result.played)", "\(result.bytes)", "\(result.lost)",
            "\(result.descriptorsBefore)/\(result.descriptorsAfter)", "\(result.longestStall.milliseconds) ms",
        ]
        Terminal.printLine("=" + cells.joined(separator: "\t"))
        return result.isWell
    }

    private static let progress: @Sendable (String) -> Void = { Terminal.printLine("~\($0)") }

    private func runSoft(_ result: inout FaultResult) {
        let faults = SoftFaults(participant: Participant(engine: engine), library: library, seed: selection.seed)
        if let scenarios = selection.scenarios { return faults.play(scenarios, Self.progress, &result) }
        if let random = selection.random { return faults.play(random: random, Self.progress, &result) }
        faults.play(Scenario.all, Self.progress, &result)
        faults.play(random: Self.randomCount, Self.progress, &result)
        faults.echo(until: UInt64(selection.count ?? Self.softCount), Self.progress, &result)
    }

    private func runHard(_ result: inout FaultResult) {
        let faults = HardFaults(participant: Participant(engine: engine), library: library)
        let workloads = selection.workload.map { [$0] } ?? HardWorkload.allCases
        if let plan = selection.plan {
            for workload in workloads { faults.play(workload, plan, &result) }
        } else {
            faults.sweep(workloads, upTo: selection.count, Self.progress, &result)
        }
    }

    /// Random scenarios of a run that names no number.
    private static let randomCount = 300
    /// Faults of a soft run that names no count.
    private static let softCount = 100_000
}
