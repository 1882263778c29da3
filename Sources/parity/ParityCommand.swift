public import ArgumentParser
public import CallbackServer
import ParityKit

/// Every scenario, or random ones, on every engine: a table, the first divergence in full, an exit status.
@main
struct ParityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parity",
        abstract: "Plays scenarios on every engine and compares what came of them.",
        discussion: "Exit status: 0 if nothing differs, 1 if something does, 64 for bad arguments.")

    @Option(help: ArgumentHelp("Only this scenario; can be repeated.", valueName: "name"))
    var scenario: [String] = []

    @Option(help: "Only this engine; can be repeated: \(Engine.allCases.map(\.rawValue).joined(separator: ", ")).")
    var engine: [Engine] = []

    @Flag(help: "List the scenarios and where their expectations are from.")
    var list = false

    @Option(help: ArgumentHelp("Play so many random scenarios instead.", valueName: "n"))
    var random: Int?

    @Option(help: ArgumentHelp("Play so many sequences of random calls instead, on each engine.", valueName: "n"))
    var misuse: Int?

    @Option(help: ArgumentHelp("Play the sequence of calls in this file, as a fuzzer writes it.", valueName: "path"))
    var misuseFile: String?

    @Option(help: ArgumentHelp("The seed of the first random scenario or sequence.", valueName: "s"))
    var seed: UInt64 = 1

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    /// As many as a day can hold.
    private static let mostRandom = 10_000_000

    func validate() throws {
        for name in scenario where !Scenario.all.contains(where: { $0.name == name }) {
            throw ValidationError("there is no scenario \"\(name)\"; --list names them")
        }
        if let random, !(1...Self.mostRandom).contains(random) {
            throw ValidationError("--random \(random) is not between 1 and \(Self.mostRandom)")
        }
        if let misuse, !(1...Self.mostRandom).contains(misuse) {
            throw ValidationError("--misuse \(misuse) is not between 1 and \(Self.mostRandom)")
        }
    }

    func run() throws {
        if list { return printList() }
        var seen: Set<Engine> = []
        let engines = (engine.isEmpty ? Engine.allCases : engine).filter { seen.insert($0).inserted }
        let participants = engines.map(Participant.init(engine:))
        let isWell =
            if let misuse {
                MisuseRun(participants: participants).run(count: misuse, seed: seed)
            } else if let misuseFile {
                MisuseRun(participants: participants).run(file: misuseFile)
            } else if let random {
                RandomRun(count: random, seed: seed, participants: participants, isJSON: json).run()
            } else {
                TableRun(scenarios: selected, participants: participants, isJSON: json).run()
            }
        if !isWell { throw ExitCode(1) }
    }

    private var selected: [Scenario] {
        scenario.isEmpty ? Scenario.all : Scenario.all.filter { scenario.contains($0.name) }
    }

    private func printList() {
        for scenario in Scenario.all {
            let clauses = scenario.clauses.map { "\($0)" }.joined(separator: ", ")
            Terminal.printLine("\(scenario.name)  [\(clauses)]  \(scenario.source)")
        }
    }
}

extension Engine: ExpressibleByArgument {}

extension Participant {
    /// An engine of this package.
    init(engine: Engine) {
        self.init(engine.rawValue) { options throws(IOError) in
            try EventLoop(engine: engine, options: options)
        }
    }
}
