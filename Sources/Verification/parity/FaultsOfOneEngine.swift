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
        // What is opened once a process: libuv's pipe for signals, for one.
        warmUp()
        result.descriptorsBefore = Parity.openDescriptors()
        switch selection.mode {
        case .soft: runSoft(&result)
        case .hard: runHard(&result)
        }
        result.descriptorsAfter = Parity.openDescriptors()
        result.counts = library.counts
        for failure in result.failures.prefix(Self.mostFailures) {
            Terminal.printLine(failure.text)
            Terminal.printLine(
                "  again: parity --faults \(selection.mode.rawValue) --engine \(engine.rawValue) \(failure.repetition)")
        }
        let faults = result.counts.map { "\($0.kind) \($0.count)" }.joined(separator: ", ")
        Terminal.printLine("\(engine.rawValue): \(faults)")
        let (bytes, lost) = result.bytes.map { ("\($0)", "\(result.lost)") } ?? ("-", "-")
        let cells = [
            "\(result.injected)", "\(result.played)", bytes, lost,
            "\(result.descriptorsBefore)/\(result.descriptorsAfter)", "\(result.longestStall.milliseconds) ms",
        ]
        Terminal.printLine("=" + cells.joined(separator: "\t"))
        return result.isWell
    }

    private func warmUp() {
        for scenario in Scenario.all where ["tcp_ping_pong", "we_get_signals"].contains(scenario.name) {
            _ = Parity.run(scenario, on: [Participant(engine: engine)])
        }
    }

    private static let progress: @Sendable (String) -> Void = { Terminal.printLine("~\($0)") }

    private func runSoft(_ result: inout FaultResult) {
        let faults = SoftFaults(participant: Participant(engine: engine), library: library, seed: selection.seed)
        if let scenarios = selection.scenarios { return faults.play(scenarios, Self.progress, &result) }
        if selection.random == nil { faults.play(Scenario.all, Self.progress, &result) }
        faults.play(random: selection.random ?? Self.randomCount, Self.progress, &result)
        if selection.random != nil, selection.count == nil { return }
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
