@_spi(Engine) import CallbackModel
import CallbackServer
import ParityKit
import Testing

@testable import Breakable

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `Random scenarios` {
    /// In ten parts, which run side by side. `parity --random` plays as many as it is told.
    @Test(arguments: 0..<10)
    func `come to the same on every engine, and to what was drawn`(part: Int) {
        for seed in UInt64(part * 10)..<UInt64(part * 10 + 10) {
            let report = Parity.run(.random(seed: seed), on: Participant.engines)
            #expect(report.isEqual, "seed \(seed): \(report.divergences)")
        }
    }

    /// As many as fit.
    @Test(arguments: [Form.group(.evenly), .group(.shared), .group(.byKernel), .async])
    func `come to the same in other forms`(form: Form) {
        let participants = [Participant(.epoll)] + Participant.engines.map { $0.playing(form) }
        for seed in 1...40 as ClosedRange<UInt64> {
            let scenario = Scenario.random(seed: seed)
            guard form.obstacle(to: scenario) == nil else { continue }
            let report = Parity.run(scenario, on: participants)
            #expect(report.isEqual, "seed \(seed), \(form.name): \(report.divergences)")
        }
    }

    @Test func `are the same for the same seed`() {
        for seed in 1...20 as ClosedRange<UInt64> {
            #expect(Scenario.random(seed: seed).swiftSource == Scenario.random(seed: seed).swiftSource)
        }
        #expect(Scenario.random(seed: 1).swiftSource != Scenario.random(seed: 2).swiftSource)
    }
}

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `A script that differs` {
    /// One that swaps writes, told apart from the small engine as it should be.
    private var participants: [Participant] {
        [nil, PlantedBug.queuedWritesAreSwapped].map { bug in
            Participant(bug.map { "\($0)" } ?? "whole") { options throws(IOError) in
                EventLoop(driver: try BreakableLoop(bug), options: options)
            }
        }
    }

    private func isTold(_ scenario: Scenario) -> Bool {
        Parity.run(scenario, on: participants).divergences.contains { $0.reference == "whole" }
    }

    @Test func `is found by random scenarios, and shortened`() throws {
        let found = (1...200 as ClosedRange<UInt64>).lazy.map { Scenario.random(seed: $0) }.first { isTold($0) }
        let scenario = try #require(found)
        let short = Shrinking.shrink(scenario, within: .seconds(20), while: isTold)
        let count = { (scenario: Scenario) in scenario.peers.reduce(0) { $0 + $1.steps.count } }
        #expect(count(short) < count(scenario))
        #expect(short.swiftSource.contains("seed"), "it can be played again from its seed")
    }
}
