import CallbackServer
import ParityKit
import Testing

extension Participant {
    /// An engine of this package.
    init(_ engine: Engine) {
        self.init(engine.rawValue) { options throws(IOError) in
            try EventLoop(engine: engine, options: options)
        }
    }

    static let engines = Engine.allCases.map { Participant($0) }
}

@Suite(.timeLimit(.minutes(10)))
struct `Every scenario on every engine` {
    private static let signalling = ["we_get_signals", "we_get_signals_one_shot", "signals_while_echoing"]

    @Test(arguments: Scenario.all.map(\.name).filter { !signalling.contains($0) })
    func `comes to what is expected`(name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let report = Parity.run(scenario, on: Participant.engines)
        #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
        #expect(report.outcomes.count == Engine.allCases.count)
    }

    /// One at a time: libuv and the reference engines take a signal's handler from each other.
    @Test func `signals come to what is expected`() throws {
        for scenario in Scenario.all where Self.signalling.contains(scenario.name) {
            let report = Parity.run(scenario, on: Participant.engines)
            #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
        }
    }
}

@Suite struct `The catalogue` {
    @Test func `has no name twice`() {
        #expect(Set(Scenario.all.map(\.name)).count == Scenario.all.count)
    }

    @Test(arguments: 1...18)
    func `has a scenario for the clause`(clause: Int) {
        #expect(Scenario.all.contains { $0.clauses.contains(clause) })
    }

    @Test func `tells where each expectation is from`() {
        for scenario in Scenario.all { #expect(!scenario.source.isEmpty, "\(scenario.name)") }
    }
}
