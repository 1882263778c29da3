@_spi(Engine) import CallbackModel
import CallbackServer
import Glibc
import ParityKit
import Testing

@testable import Breakable

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `Planted bugs` {
    /// What `BreakableLoop` does not have: signals, names, and the adoption of listeners.
    private static let beyond: Set<String> = [
        "we_get_signals", "we_get_signals_one_shot", "signals_while_echoing", "signal_that_cannot_be_caught",
        "connect_to_a_host",
    ]

    private static let scenarios = Scenario.all.filter { !beyond.contains($0.name) && $0.name != "tcp_writealot" }

    private static func participant(_ bug: PlantedBug?) -> Participant {
        Participant(bug.map { "\($0)" } ?? "whole") { options throws(IOError) in
            EventLoop(driver: try BreakableLoop(bug), options: options)
        }
    }

    /// Otherwise catching a bug would mean nothing.
    @Test(arguments: scenarios.map(\.name))
    func `without a bug, the small engine passes`(name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let report = Parity.run(scenario, on: [Self.participant(nil)])
        #expect(report.isEqual, "\(report.divergences)")
    }

    /// Each by the scenario that is named beside it. The score is printed. In a process of its own: some bugs show only
    /// if the next descriptor has the number that was closed last.
    @Test(.heavy) func `are all caught`() async {
        await #expect(processExitsWith: .success) {
            var caught = 0
            let bugs = PlantedBug.allCases.filter { $0.scenario != nil }
            for bug in bugs {
                let report = try Self.play(bug)
                if !report.isEqual { caught += 1 }
                let last = report.divergences.first?.text.split(separator: "\n").last ?? "NOT CAUGHT"
                print("\(bug): \(report.scenario): \(last.drop { $0 == " " })")
                fflush(nil)
            }
            print("planted bugs: caught \(caught) of \(bugs.count)")
            #expect(caught == bugs.count)
            #expect(caught >= 30)
        }
    }

    private static func play(_ bug: PlantedBug) throws -> Report {
        var scenario = try #require(Scenario.all.first { $0.name == bug.scenario }, "\(bug)")
        // A bug that makes a run hang is caught as well, and sooner.
        scenario.timeLimit = .seconds(1)
        return Parity.run(scenario, on: [participant(bug)])
    }
}
