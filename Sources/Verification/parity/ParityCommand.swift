public import ArgumentParser
import AsyncParity
public import CallbackServer
import CallbackTLS
import FaultKit
import ParityKit
import TLSParity

/// Every scenario, or random ones, on every engine: a table, the first divergence in full, an exit status.
#if !FUZZING
    @main
#endif
struct ParityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parity",
        abstract: "Plays scenarios on every engine and compares what came of them.",
        discussion: "Exit status: 0 if nothing differs, 1 if something does, 64 for bad arguments.")

    @Option(help: ArgumentHelp("Only this scenario; can be repeated.", valueName: "name"))
    var scenario: [String] = []

    @Option(help: "Only this engine; can be repeated: \(Engine.allCases.map(\.rawValue).joined(separator: ", ")).")
    var engine: [Engine] = []

    @Option(help: "How the side under test plays: \(PlayedForm.allCases.compactMap(\.help).joined(separator: ", ")).")
    var form = PlayedForm.callbacks

    @Flag(help: "Play over TLS 1.3, or over 1.2. With --list: what TLS changes in which scenario, and why.")
    var tls: PlayedTLS?

    @Flag(help: "List the scenarios and where their expectations are from.")
    var list = false

    @Option(help: ArgumentHelp("Play this many random scenarios instead.", valueName: "n"))
    var random: Int?

    @Option(help: ArgumentHelp("Play this many sequences of random calls instead, on each engine.", valueName: "n"))
    var calls: Int?

    @Option(help: ArgumentHelp("Play the sequence of calls in this file, as a fuzzer writes it.", valueName: "path"))
    var callsFile: String?

    @Flag(help: "Resolve \(HostComparison.cases.count) hosts, odd ones among them, on every engine instead.")
    var hosts = false

    @Option(help: ArgumentHelp("The seed of the first random scenario or sequence.", valueName: "s"))
    var seed: UInt64 = 1

    @Option(help: "Inject faults into calls on sockets: soft ones, which must change nothing, or hard ones.")
    var faults: FaultMode?

    @Option(help: ArgumentHelp("With --faults: the number of soft faults; hard ones up to this call.", valueName: "n"))
    var count: Int?

    @Option(help: "With --faults hard, only this: \(HardWorkload.allCases.map(\.rawValue).joined(separator: ", ")).")
    var workload: HardWorkload?

    @Option(help: "With --faults hard, only this, such as \"hard call=write errno=ENOMEM at=3 for-ever\".")
    var plan: String?

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    /// As many as a day can hold.
    private static let mostRandom = 10_000_000
    /// Some hours of faults.
    private static let mostFaults = 1_000_000_000

    func validate() throws {
        for name in scenario where !Scenario.all.contains(where: { $0.name == name }) {
            throw ValidationError("there is no scenario \"\(name)\"; --list names them")
        }
        if let random, !(1...Self.mostRandom).contains(random) {
            throw ValidationError("--random \(random) is not between 1 and \(Self.mostRandom)")
        }
        if let calls, !(1...Self.mostRandom).contains(calls) {
            throw ValidationError("--calls \(calls) is not between 1 and \(Self.mostRandom)")
        }
        if let count, !(1...Self.mostFaults).contains(count) {
            throw ValidationError("--count \(count) is not between 1 and \(Self.mostFaults)")
        }
        if faults == nil, count != nil { throw ValidationError("--count needs --faults") }
        if faults != .hard, plan != nil || workload != nil {
            throw ValidationError("--plan and --workload need --faults hard")
        }
        if let plan, FaultPlan(hard: plan) == nil {
            throw ValidationError("\"\(plan)\" is no plan such as \"hard call=write errno=ENOMEM at=3 for-ever\"")
        }
        let modes = [random != nil, calls != nil, callsFile != nil, faults != nil, !scenario.isEmpty]
        if hosts, modes.contains(true) || json { throw ValidationError("--hosts goes with --engine alone") }
        if form != .callbacks, faults != nil || calls != nil || callsFile != nil || hosts {
            throw ValidationError("--form goes with scenarios and with --random")
        }
        if tls != nil, form != .callbacks || faults != nil || hosts {
            throw ValidationError("--tls goes with scenarios, with --random and with --calls")
        }
        if faults != nil, json { throw ValidationError("--faults prints no JSON") }
    }

    func run() throws {
        if list { return printList() }
        var seen: Set<Engine> = []
        let engines = (engine.isEmpty ? Engine.allCases : engine).filter { seen.insert($0).inserted }
        if let faults { return try run(faults, engines) }
        let participants = try participants(engines)
        let isWell =
            if let calls {
                CallsRun(participants: participants).run(count: calls, seed: seed)
            } else if let callsFile {
                CallsRun(participants: participants).run(file: callsFile)
            } else if hosts {
                HostsRun(participants: participants).run()
            } else if let random {
                RandomRun(count: random, seed: seed, participants: participants, isJSON: json).run()
            } else {
                TableRun(scenarios: selected, participants: participants, isJSON: json).run()
            }
        if !isWell { throw ExitCode(1) }
    }

    private func participants(_ engines: [Engine]) throws -> [Participant] {
        if let tls {
            let form = try Form.tls(tls == .tls ? .tls13 : .tls12)
            return engines.map { Participant(engine: $0).playing(form) }
        }
        if form == .callbacks { return engines.map { Participant(engine: $0) } }
        // Beside callbacks on one loop, so that what an expectation leaves open is compared too.
        return engines.prefix(1).map { Participant(engine: $0).playing(.callbacks) }
            + engines.map { Participant(engine: $0).playing(form.form) }
    }

    private var selected: [Scenario] {
        let chosen = scenario.isEmpty ? Scenario.all : Scenario.all.filter { scenario.contains($0.name) }
        return tls == nil ? chosen : chosen.map(\.overTLS)
    }

    /// This process hands on to one for each engine, which has the fault library before libc and comes here again.
    private func run(_ mode: FaultMode, _ engines: [Engine]) throws {
        let isWell: Bool
        if let library = FaultLibrary(), let engine = engines.first {
            let selection = FaultSelection(
                mode: mode, seed: seed, count: count, random: random, scenarios: scenario.isEmpty ? nil : selected,
                workload: workload, plan: plan.flatMap { FaultPlan(hard: $0) })
            if let plan = selection.plan, !library.understands(plan) {
                throw ValidationError("the fault library does not know \"\(plan)\"")
            }
            isWell = FaultsOfOneEngine(engine: engine, library: library, selection: selection).run()
        } else {
            var arguments = ["--faults", mode.rawValue, "--seed", "\(seed)"]
            if let count { arguments += ["--count", "\(count)"] }
            if let random { arguments += ["--random", "\(random)"] }
            if let workload { arguments += ["--workload", workload.rawValue] }
            if let plan { arguments += ["--plan", plan] }
            for scenario in selected where !self.scenario.isEmpty { arguments += ["--scenario", scenario.name] }
            isWell = try FaultsRun(engines: engines, arguments: arguments, seed: seed).run()
        }
        if !isWell { throw ExitCode(1) }
    }

    private func printList() {
        for scenario in Scenario.all {
            let clauses = scenario.clauses.map { "\($0)" }.joined(separator: ", ")
            Terminal.printLine("\(scenario.name)  [\(clauses)]  \(scenario.source)")
            if tls != nil, let difference = scenario.differenceOverTLS {
                Terminal.printLine("  differs over TLS: \(difference)")
            }
        }
    }
}

/// The values of `--form`.
enum PlayedForm: String, CaseIterable, ExpressibleByArgument {
    case callbacks, tasks, evenly, shared, byKernel, async

    var form: Form {
        switch self {
        case .callbacks: .callbacks
        case .tasks: .tasks
        case .evenly: .group(.evenly)
        case .shared: .group(.shared)
        case .byKernel: .group(.byKernel)
        case .async: .async
        }
    }

    var help: String? {
        switch self {
        case .callbacks: "callbacks on one loop"
        case .tasks: "tasks (one in each callback)"
        case .evenly: "evenly, shared or byKernel (on a group of two loops)"
        case .shared, .byKernel: nil
        case .async: "async (for try await)"
        }
    }
}

/// `--tls` and `--tls12`.
enum PlayedTLS: String, EnumerableFlag {
    case tls, tls12
}

extension Engine: ExpressibleByArgument {}
extension FaultMode: ExpressibleByArgument {}
extension HardWorkload: ExpressibleByArgument {}

extension Participant {
    /// An engine of this package.
    init(engine: Engine) {
        self.init(engine.rawValue) { options throws(IOError) in
            try EventLoop(engine: engine, options: options)
        }
    }
}
