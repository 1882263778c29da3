import CallbackServer
import ParityKit

/// Hosts as users write them, and as they should not be, resolved on every engine.
struct HostsRun {
    let participants: [Participant]

    /// Resolves all; whether every engine kept the rule and all agreed.
    func run() -> Bool {
        let start = ContinuousClock.now
        let differences: [HostComparison.Difference]
        do throws(IOError) {
            differences = try HostComparison.run(HostComparison.cases, on: participants)
        } catch {
            Terminal.printLine("cannot resolve: \(error)")
            return false
        }
        for difference in differences {
            Terminal.printLine("\(shown(difference.host)), expected: \(difference.expected)")
            for (participant, outcome) in difference.outcomes { Terminal.printLine("  \(participant): \(outcome)") }
        }
        let time = ContinuousClock.now - start
        Terminal.printLine(
            "\(HostComparison.cases.count) hosts on \(participants.count) engines, "
                + "\(differences.count) with a divergence, in \(time.milliseconds) ms")
        return differences.isEmpty
    }

    /// On one line of plain characters, cut when it is long.
    private func shown(_ host: String) -> String {
        let most = 80
        let text = host.unicodeScalars.prefix(most).map { $0.escaped(asASCII: true) }.joined()
        return "\"\(text)\"" + (host.unicodeScalars.dropFirst(most).isEmpty ? "" : "...")
    }
}
