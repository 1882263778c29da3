internal import CallbackModel

// The one place that forgives differences. What is not in a transcript is not compared: ports, descriptors, times,
// how a stream was cut, how often a queue drained, and which connection's callback came first.

/// What was seen of one connection on the side under test, as it was seen.
struct Observed {
    var isOpened = false
    var digest = StreamDigest()
    var isEnded = false
    var completions = 0
    var failures = 0
    var drains = 0
    var timeouts: [TimeoutKind] = []
    var closing: CloseReason?
}

/// What a peer saw, as it saw it.
struct PeerOutcome: Sendable {
    var digest = StreamDigest()
    var ending = Transcript.Ending.unseen
    /// What it could not do: a time limit, or an errno that no step allows for.
    var failure: String?
}

enum Canonicalization {
    /// After a peer's reset the kernel gives ECONNRESET to the first call and EPIPE to later ones; ECONNABORTED is the
    /// same before accept(2). They are one cause (send(2), tcp(7)).
    static func closing(_ reason: CloseReason?) -> Transcript.Closing {
        switch reason {
        case .localClose: .localClose
        case .localReset: .localReset
        case .peerClosed: .peerClosed
        case .peerReset: .peerReset
        case .truncated: .truncated
        case .timedOut(let kind): .timedOut(kind)
        case .shed: .shed
        case .drainDeadline: .drainDeadline
        case .failed(let error) where error.isPeerReset: .peerReset
        case .failed(let error): .failed(error.name)
        case nil: .never
        }
    }

    /// The lines about one connection. What `expectation` leaves to the kernel's timing is left out.
    static func lines(
        _ seen: Observed, _ peer: PeerOutcome, _ expectation: Scenario.Expectation?
    ) -> [Transcript.Line] {
        var lines: [Transcript.Line] = []
        func add(_ field: String, _ value: String, unless isForgiven: Bool) {
            if !isForgiven { lines.append(Transcript.Line(field: field, value: value)) }
        }
        let all = expectation == nil
        let expected = expectation ?? Scenario.Expectation(closing: nil, nil)
        add("opened", "\(seen.isOpened)", unless: !all && expected.isOpened == nil)
        add("received", bytes(seen.digest, expectation?.received), unless: expectation?.received == .undetermined)
        add("end", "\(seen.isEnded)", unless: !all && expected.isEnded == nil)
        add("completions", "\(seen.completions)", unless: !all && expected.completions == nil)
        add("failures", "\(seen.failures)", unless: !all && expected.failures == nil)
        add("drained", "\(seen.drains > 0)", unless: !all && expected.isDrained == nil)
        add("time-outs", names(seen.timeouts), unless: !all && expected.timeouts == nil)
        add("closed", "\(closing(seen.closing))", unless: !all && expected.closing == nil)
        let isPeerForgiven = expectation?.peerReceived == .undetermined
        add("peer received", bytes(peer.digest, expectation?.peerReceived), unless: isPeerForgiven)
        add("peer saw", peer.ending.rawValue, unless: !all && expected.peerEnding == nil)
        return lines
    }

    /// The same lines as they have to be.
    static func lines(_ expected: Scenario.Expectation) -> [Transcript.Line] {
        var lines: [Transcript.Line] = []
        func add(_ field: String, _ value: String?) {
            if let value { lines.append(Transcript.Line(field: field, value: value)) }
        }
        add("opened", expected.isOpened.map { "\($0)" })
        add("received", bytes(expected.received))
        add("end", expected.isEnded.map { "\($0)" })
        add("completions", expected.completions.map { "\($0)" })
        add("failures", expected.failures.map { "\($0)" })
        add("drained", expected.isDrained.map { "\($0)" })
        add("time-outs", expected.timeouts.map(names))
        add("closed", expected.closing.map { "\($0)" })
        add("peer received", bytes(expected.peerReceived))
        add("peer saw", expected.peerEnding.map(\.rawValue))
        return lines
    }

    private static func names(_ timeouts: [TimeoutKind]) -> String {
        timeouts.isEmpty ? "none" : timeouts.map(\.rawValue).joined(separator: ", ")
    }

    /// Text when it is short, else a length and a hash.
    private static func bytes(_ digest: StreamDigest, _ expected: Scenario.Expectation.Bytes?) -> String {
        if case .prefix = expected {
            return digest.firstDifference.map { "differs at byte \($0) of \(digest.count)" } ?? "an exact prefix"
        }
        if digest.count == 0 { return "nothing" }
        let isShort = digest.count <= StreamDigest.keptCount
        let isPlain = digest.head.allSatisfy { (0x20..<0x7F).contains($0) }
        if isShort, isPlain { return "\"\(String(decoding: digest.head, as: UTF8.self))\"" }
        return "\(digest.count) bytes, hash \(String(digest.hash, radix: 16))"
    }

    private static func bytes(_ expected: Scenario.Expectation.Bytes) -> String? {
        switch expected {
        case .undetermined: return nil
        case .prefix: return "an exact prefix"
        case .exactly(let payload):
            var digest = StreamDigest()
            digest.append(payload.bytes)
            return bytes(digest, nil)
        }
    }
}
