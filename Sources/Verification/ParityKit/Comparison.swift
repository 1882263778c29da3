/// One difference, with what a person needs to judge it.
public struct Divergence: Hashable, Sendable, CustomStringConvertible {
    /// In which scenario.
    public let scenario: String
    /// Whose transcript it is in.
    public let participant: String
    /// What it was compared with: `expected`, or another participant; nothing for a violation.
    public let reference: String?
    /// The difference, ready to be printed: some lines that are the same, then the two that are not.
    public let text: String

    /// One heading and the text.
    public var description: String {
        guard let reference else { return "\(scenario), \(participant):\n\(text)" }
        return "\(scenario), \(participant) against \(reference):\n\(text)"
    }
}

enum Comparison {
    /// So many lines before the first difference are printed.
    private static let context = 3

    /// Where the outcomes violate something, differ from the expectation, or from the first one.
    static func divergences(of outcomes: [Outcome], in scenario: Scenario) -> [Divergence] {
        var divergences: [Divergence] = []
        func add(_ outcome: Outcome, _ reference: String?, _ text: String) {
            divergences.append(
                Divergence(
                    scenario: scenario.name, participant: outcome.participant, reference: reference, text: text))
        }
        let expected = expectation(of: scenario)
        for outcome in outcomes {
            for violation in outcome.violations { add(outcome, nil, "  \(violation)") }
            var mine = outcome.transcript
            if scenario.expectedNotes == nil { mine.notes = [] }
            if let expected, let text = firstDifference(expected, mine) {
                add(outcome, "expected", text)
            }
        }
        guard let first = outcomes.first else { return divergences }
        for outcome in outcomes.dropFirst() {
            if let text = firstDifference(first.transcript, outcome.transcript) {
                add(outcome, first.participant, text)
            }
        }
        return divergences
    }

    /// Nothing if the scenario leaves it to the participants to agree.
    private static func expectation(of scenario: Scenario) -> Transcript? {
        let hasConnections = scenario.expected.count == scenario.peers.count
        guard hasConnections, !scenario.peers.isEmpty || scenario.expectedNotes != nil else { return nil }
        return Transcript(
            connections: scenario.expected.map { Canonicalization.lines($0) }, notes: scenario.expectedNotes ?? [])
    }

    /// The first line in which two transcripts differ.
    static func firstDifference(_ wanted: Transcript, _ seen: Transcript) -> String? {
        let (left, right) = (wanted.text, seen.text)
        for index in 0..<max(left.count, right.count) {
            let (mine, other) = (index < left.count ? left[index] : nil, index < right.count ? right[index] : nil)
            if mine == other { continue }
            var lines = left[max(0, index - context)..<index].map { "    \($0)" }
            // The heading says which connection it is; it may be further up.
            if let heading = left[..<index].last(where: { $0.hasPrefix("connection") }),
                !lines.contains("    \(heading)")
            {
                lines.insert("    \(heading)", at: 0)
            }
            lines.append("  - \(mine ?? "(nothing)")")
            lines.append("  + \(other ?? "(nothing)")")
            return lines.joined(separator: "\n")
        }
        return nil
    }
}
