package import CallbackModel
internal import Glibc

/// A text that a program is given for a host, and what is to come of it on every engine.
package struct HostCase: Sendable {
    /// What it is by the rule of contract clause 18.
    package enum Kind: Sendable, Equatable {
        /// It resolves to this, on the loop.
        case number(String)
        /// The resolver is asked; what it knows depends on the machine.
        case name
        /// EINVAL, thrown.
        case refused
    }

    package let host: String
    package let kind: Kind

    package init(_ host: String, _ kind: Kind) {
        self.host = host
        self.kind = kind
    }
}

/// The same hosts resolved on several engines, and compared.
package enum HostComparison {
    /// What one host came to, and what it should have.
    package struct Difference: Sendable {
        package let host: String
        /// By the rule.
        package let expected: String
        /// In the order of the participants.
        package let outcomes: [(participant: String, outcome: String)]
    }

    /// How long the resolver may take for all of them: a name server that does not answer is asked for 10 s.
    package static let timeLimit: Duration = .seconds(60)

    /// Resolves all `cases` on each participant at once, and returns where the answers differ from the rule or from
    /// each other. Throws what making or running a loop throws.
    package static func run(
        _ cases: [HostCase], on participants: [Participant]
    ) throws(IOError) -> [Difference] {
        var answers: [[String]] = []
        for participant in participants { answers.append(try resolve(cases, on: participant)) }
        return cases.indices.compactMap { index in
            let outcomes = answers.map { $0[index] }
            let expected = cases[index].kind
            let isWell = outcomes.allSatisfy { isIt($0, expected) } && Set(outcomes).count <= 1
            guard !isWell else { return nil }
            return Difference(
                host: cases[index].host, expected: description(of: expected),
                outcomes: zip(participants, outcomes).map { ($0.0.name, $0.1) })
        }
    }

    private static func resolve(_ cases: [HostCase], on participant: Participant) throws(IOError) -> [String] {
        var options = EventLoop.Options()
        options.lookUpThreads = 64
        let loop = try participant.makeLoop(options)
        let answers = Answers(count: cases.count)
        for (index, item) in cases.enumerated() {
            do throws(IOError) {
                try loop.resolve(host: item.host, port: 7) { answers.note(text(of: $0), at: index) }
            } catch {
                answers.note("refused, \(error.name)", at: index)
            }
        }
        loop.schedule(after: timeLimit) { [unowned loop] _ in loop.stop() }.unref()
        try loop.run()
        return answers.texts
    }

    /// A reference for the callbacks.
    private final class Answers {
        var texts: [String]

        init(count: Int) { texts = Array(repeating: "no answer", count: count) }

        func note(_ text: String, at index: Int) {
            texts[index] = texts[index] == "no answer" ? text : "told twice: \(texts[index]), \(text)"
        }
    }

    private static func text(of answer: Result<[SocketAddress], IOError>) -> String {
        switch answer {
        // The resolver may give them in another order each time (RFC 6724 sorts by the routes of the moment).
        case .success(let addresses): addresses.map(\.description).sorted().joined(separator: ", ")
        // A name server may answer once and be silent the next time.
        case .failure(let error) where error.errno == ENOENT || error.errno == EAGAIN: "not found"
        case .failure(let error): error.name
        }
    }

    private static func isIt(_ outcome: String, _ kind: HostCase.Kind) -> Bool {
        switch kind {
        case .number(let address): outcome == address
        case .refused: outcome == description(of: .refused)
        case .name: !outcome.hasPrefix("refused") && !outcome.hasPrefix("told twice")
        }
    }

    private static func description(of kind: HostCase.Kind) -> String {
        switch kind {
        case .number(let address): address
        case .name: "what the resolver says"
        case .refused: "refused, EINVAL"
        }
    }
}
