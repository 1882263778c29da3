@_spi(Engine) import CallbackModel
import CallbackServer
import Glibc
import ParityKit
import RandomCalls
import TLSParity
import Testing

@testable import Breakable

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Random calls from everywhere` {
    /// `parity --calls` plays as many as it is told; the gate plays these under the sanitizers too.
    /// In a process of its own: signals, and ports at which nobody listens, are the whole process's.
    @Test(arguments: Engine.allCases)
    func `keep the contract on every engine`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [name = engine.rawValue as String] in
            let engine = try #require(Engine(rawValue: name))
            for seed in UInt64(0)..<20 {
                let violations = CallSequence.play(CallSequence.random(seed: seed), on: Participant(engine))
                #expect(violations.isEmpty, "seed \(seed)")
            }
        }
    }

    /// 102,553 has frames and their end in one read.
    @Test(arguments: Engine.allCases)
    func `keep the contract over TLS`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [name = engine.rawValue as String] in
            let engine = try #require(Engine(rawValue: name))
            let participant = try Participant(engine).playing(.tls())
            for seed in Array(UInt64(0)..<20) + [102_553] {
                let violations = CallSequence.play(CallSequence.random(seed: seed), on: participant)
                #expect(violations.isEmpty, "seed \(seed)")
            }
        }
    }

    @Test func `are the same for the same seed`() {
        #expect(CallSequence.random(seed: 7) == CallSequence.random(seed: 7))
        #expect(CallSequence.random(seed: 7) != CallSequence.random(seed: 8))
    }

    @Test func `may be none at all`() {
        #expect(CallSequence.play([], on: Participant(.libuv)).isEmpty)
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Random calls against planted bugs` {
    private static func participant(_ bug: PlantedBug?) -> Participant {
        Participant(bug.map { "\($0)" } ?? "whole") { options throws(IOError) in
            EventLoop(driver: try BreakableLoop(bug), options: options)
        }
    }

    /// What the machine does not see, and the scenarios do.
    private static let unseen: [PlantedBug: String] = [
        .interruptedWriteIsFatal: "only injected faults show it", .abortedClientEndsAccepting: "the same",
        .stopIsIgnored: "a run never returns, and the machine, which has one thread, neither",
        .noWaitWaits: "the same",
        .readsHaveNoLimit: "fairness is a matter of scenarios",
        .equalTimersAreReversed: "and so is order between timers",
        .urgentDataIsInline: "its peers send no urgent data", .optionsAreNotApplied: "it asks for no socket option",
        .timersDoNotKeepTheLoop: "connections do, until the timers are cancelled",
        .wakeIsLost: "it wakes from the loop's thread, where the next run finds what was asked",
        .descriptorIsLeaked: "seen where no other test opens descriptors: parity --calls",
    ]

    private static let shown = PlantedBug.allCases.filter { unseen[$0] == nil }

    /// The first sequence that a bug shows in.
    private static func failure(
        of bug: PlantedBug?, among seeds: Range<UInt64>
    ) -> (sequence: [UInt8], violations: [String])? {
        for seed in seeds {
            let sequence = CallSequence.random(seed: seed)
            // A run that hangs because of a bug has shown it after three seconds: none takes half as long without.
            let limit: Duration = bug == nil ? .seconds(20) : .seconds(3)
            let violations = CallSequence.play(sequence, on: participant(bug), within: limit)
            if !violations.isEmpty { return (sequence, violations) }
        }
        return nil
    }

    /// Otherwise catching a bug would mean nothing.
    @Test(.heavy) func `without one, the small engine passes`() {
        let failure = Self.failure(of: nil, among: 0..<50)
        #expect(failure?.violations == nil)
    }

    /// The score is printed. In a process of its own: a broken engine may use descriptors that are others' by now.
    @Test func `show them`() async {
        await #expect(processExitsWith: .success) {
            var missed: [PlantedBug] = []
            for bug in Self.shown {
                if let failure = Self.failure(of: bug, among: 0..<10_000) {
                    print("\(bug): \(failure.violations[0])")
                    fflush(nil)
                } else {
                    missed.append(bug)
                }
            }
            print("random calls: caught \(Self.shown.count - missed.count) of \(Self.shown.count)")
            #expect(missed.isEmpty, "\(missed) were not caught")
        }
    }

    @Test(.heavy) func `and the sequence is shortened`() throws {
        let participant = Self.participant(.emptyReadIsDelivered)
        let long = try #require(Self.failure(of: .emptyReadIsDelivered, among: 0..<300)?.sequence)
        let short = CallSequence.shrink(long, on: participant, within: .seconds(20))
        #expect(short.count < long.count)
        #expect(!CallSequence.play(short, on: participant).isEmpty)
        #expect(CallSequence.steps(of: short, on: participant).contains { $0.hasPrefix("at fault: ") })
    }
}
