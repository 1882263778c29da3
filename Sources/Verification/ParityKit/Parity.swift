public import CallbackModel
internal import Glibc

/// One kind of event loop that takes part in a comparison: an engine, usually.
public struct Participant: Sendable {
    /// Its name in tables and reports.
    public let name: String

    /// Makes a loop for the calling thread.
    public let makeLoop: @Sendable (EventLoop.Options) throws(IOError) -> EventLoop

    /// How it plays; ``Form/callbacks`` unless said otherwise. ``Form/obstacle(to:)`` says which scenarios it cannot.
    public var form = Form.callbacks

    /// A participant that makes its loops with `makeLoop`, which has to hand the options on.
    public init(
        _ name: String, makeLoop: @escaping @Sendable (EventLoop.Options) throws(IOError) -> EventLoop
    ) {
        self.name = name
        self.makeLoop = makeLoop
    }

    /// The same participant in another form, which its name tells too.
    public func playing(_ form: Form) -> Participant {
        var participant = Participant("\(name) \(form.name)", makeLoop: makeLoop)
        participant.form = form
        return participant
    }
}

/// What one participant made of a scenario.
public struct Outcome: Sendable {
    /// Whose.
    public let participant: String
    /// What came of it, canonical.
    public let transcript: Transcript
    /// What must not be and was seen: a nested callback, a descriptor left open, a time limit.
    public let violations: [String]
    /// How long it took.
    public let duration: Duration
    /// What all peers received together.
    package let peerByteCount: UInt64
}

/// What all participants made of a scenario.
public struct Report: Sendable {
    /// Which.
    public let scenario: String
    /// One for each participant.
    public let outcomes: [Outcome]
    /// Where they differ from the expectation or from each other, and what was violated; empty if all is well.
    public let divergences: [Divergence]

    /// Whether all is well.
    public var isEqual: Bool { divergences.isEmpty }
}

/// Runs scenarios.
public enum Parity {
    /// How much longer than the scenario's own limit the caller waits for a loop that does not stop: 2 s.
    private static let grace: Duration = .seconds(2)

    /// Plays `scenario` on each participant, one after the other, and compares what came of it.
    ///
    /// Each loop runs on a thread of its own, which is left behind if it never comes back. No error is thrown: what
    /// cannot be done is a violation. With `isAlone`, which says that no other thread of the process opens descriptors
    /// meanwhile, a run that leaves more of them open than there were is a violation too; without it, only sockets of
    /// connections are looked after.
    public static func run(_ scenario: Scenario, on participants: [Participant], isAlone: Bool = false) -> Report {
        let outcomes = participants.map { participant in
            isAlone ? outcomeAlone(of: scenario, on: participant) : outcome(of: scenario, on: participant)
        }
        return Report(
            scenario: scenario.name, outcomes: outcomes,
            divergences: Comparison.divergences(of: outcomes, in: scenario))
    }

    /// A run may open what the process then keeps, such as the pipe of a signal handler or a sanitizer's symbolizer; a
    /// leak shows each time.
    private static let runsThatMayLeak = 3

    private static func outcomeAlone(of scenario: Scenario, on participant: Participant) -> Outcome {
        leaving(isAlone: true) {
            outcome(of: scenario, on: participant)
        } describe: { last, left in
            Outcome(
                participant: last.participant, transcript: last.transcript,
                violations: last.violations + ["clause 16: \(left) descriptors were left open"],
                duration: last.duration, peerByteCount: last.peerByteCount)
        }
    }

    /// Runs `body`; again, if it has left descriptors open and is alone, and `describe` says so if it does each time.
    package static func leaving<Answer>(
        isAlone: Bool, _ body: () -> Answer, describe: (Answer, Int) -> Answer
    ) -> Answer {
        guard isAlone else { return body() }
        for attempt in 1... {
            let before = openDescriptors()
            let answer = body()
            let left = openDescriptors() - before
            if left <= 0 { return answer }
            if attempt == runsThatMayLeak { return describe(answer, left) }
        }
        trap("unreachable: the last attempt returns")
    }

    /// How many descriptors the process has open (proc(5)).
    package static func openDescriptors() -> Int {
        guard let folder = unsafe opendir("/proc/self/fd") else { return 0 }
        defer { unsafe closedir(folder) }
        var count = 0
        while unsafe readdir(folder) != nil { count += 1 }
        return count
    }

    /// Plays `scenario` on one participant.
    public static func outcome(of scenario: Scenario, on participant: Participant) -> Outcome {
        let start = ContinuousClock.now
        let board = Board(peers: scenario.peers.count)
        let deadline = start + scenario.timeLimit
        let run = LoopRun(scenario: scenario, participant: participant, board: board, deadline: deadline)
        board.add(startThread { board.deliver(run.run()) })
        var verdict = Verdict()
        let delivered = board.waitForVerdict(until: deadline + grace)
        if let delivered {
            verdict = delivered
        } else {
            verdict.violations.append("the loop did not come back within \(scenario.timeLimit + grace)")
        }
        let peersEnded = board.waitForPeers(scenario.peers.count, until: deadline + grace)
        if !peersEnded { verdict.violations.append("a peer did not come to its end") }
        board.endThreads(areThrough: delivered != nil && peersEnded)
        let outcomes = board.outcomes
        var transcript = Transcript(connections: [], notes: verdict.notes)
        for number in scenario.peers.indices {
            let peer = outcomes[number] ?? PeerOutcome()
            if let failure = peer.failure { verdict.violations.append(failure) }
            let expected = scenario.expected.indices.contains(number) ? scenario.expected[number] : nil
            transcript.connections.append(
                Canonicalization.lines(verdict.seen[number] ?? Observed(), peer, expected))
        }
        return Outcome(
            participant: participant.name, transcript: transcript, violations: verdict.violations,
            duration: ContinuousClock.now - start,
            peerByteCount: outcomes.values.reduce(0) { $0 + UInt64($1.digest.count) })
    }
}
