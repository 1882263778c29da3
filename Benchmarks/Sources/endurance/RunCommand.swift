import ArgumentParser
import CallbackServer
import Foundation

/// The runs, one after another on each engine: a row for each.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Loads the server and prints a row for each run and engine.",
        discussion: """
            Runs:
            \(Run.all.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"))

            Exit status: 0 if all is well, 1 if something is not, 64 for bad arguments.
            """)

    @Option(help: "Only this engine; can be repeated: \(Engine.allCases.map(\.rawValue).joined(separator: ", ")).")
    var engine: [Engine] = []

    @Option(name: .customLong("run"), help: ArgumentHelp("Only this run; can be repeated.", valueName: "name"))
    var runs: [String] = []

    @Flag(help: "Small sizes, in seconds instead of hours; latencies are told and not judged.")
    var small = false

    @Option(help: ArgumentHelp("What is random begins with it.", valueName: "s"))
    var seed: UInt64 = 1

    @Option(help: ArgumentHelp("How long the soak takes.", valueName: "seconds"))
    var soak: Int?

    @Option(name: .customLong("break"), help: .hidden)
    var fault: Fault?

    /// A day.
    private static let longestSoak = 86_400
    private static let soakTime = 600
    private static let smallSoakTime = 3

    func validate() throws {
        for name in runs where !Run.all.contains(where: { $0.name == name }) {
            throw ValidationError(
                "there is no run \"\(name)\"; there are \(Run.all.map(\.name).joined(separator: ", "))")
        }
        if let soak, !(1...Self.longestSoak).contains(soak) {
            throw ValidationError("--soak \(soak) is not between 1 and \(Self.longestSoak)")
        }
    }

    func run() throws {
        // The clients of one run need more than the usual 1,024.
        try setDescriptorLimit(.max)
        let terminal = Terminal()
        let soakTime = soak ?? (small ? Self.smallSoakTime : Self.soakTime)
        let options = Trial.Options(isSmall: small, seed: seed, soakTime: .seconds(soakTime), fault: fault)
        let command = (["endurance"] + CommandLine.arguments.dropFirst()).joined(separator: " ")
        terminal.print("\(command) (seed \(seed)): \(Machine.description)")
        terminal.print(Row.header)
        var failed: [Row] = []
        let selected = Run.all.filter { runs.isEmpty || runs.contains($0.name) }
        for each in selected {
            for engine in Engine.allCases where self.engine.isEmpty || self.engine.contains(engine) {
                let row = load(each, Trial(each.name, engine, options, terminal))
                terminal.print(row.line)
                if !row.isWell { failed.append(row) }
            }
        }
        for row in failed { terminal.print(explanation(of: row)) }
        if !failed.isEmpty { throw ExitCode(1) }
    }

    private func load(_ run: Run, _ trial: Trial) -> Row {
        do {
            try run.load(trial)
            return trial.row(nil)
        } catch {
            return trial.row(error)
        }
    }

    private func explanation(of row: Row) -> String {
        let again = "endurance --run \(row.run) --engine \(row.engine) --seed \(seed)\(small ? " --small" : "")"
        return (["\n\(row.run) on \(row.engine), again with: \(again)"] + row.failures).joined(separator: "\n  ")
    }
}

extension Engine: @retroactive ExpressibleByArgument {}
