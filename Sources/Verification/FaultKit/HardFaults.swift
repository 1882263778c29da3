package import ParityKit

/// The sweep: the first call of a kind fails, the second, and so on until no call is left to fail; once, and from that
/// call on for ever.
package struct HardFaults {
    private let participant: Participant
    private let library: FaultLibrary

    package init(participant: Participant, library: FaultLibrary) {
        self.participant = participant
        self.library = library
    }

    /// What fails, and how: accept(2), bind(2), listen(2), recv(2), send(2), socket(2), tcp(7),
    /// epoll_ctl(2).
    package static let kinds: [(call: String, errnos: [String])] = [
        ("read", ["ECONNRESET", "ETIMEDOUT"]),
        ("write", ["EPIPE", "ECONNRESET", "ENOMEM", "ENOBUFS"]),
        ("accept", ["EMFILE", "ENFILE", "ENOMEM", "EPROTO"]),
        ("socket", ["EMFILE", "ENFILE", "ENOMEM"]),
        ("bind", ["EADDRINUSE", "ENOMEM"]),
        ("listen", ["EADDRINUSE"]),
        ("epoll_ctl", ["ENOMEM", "ENOSPC"]),
    ]

    /// libuv aborts when epoll_ctl(2) fails (Vendor-notes/libuv.md), and the others have no such call.
    private func concerns(_ call: String) -> Bool { call != "epoll_ctl" || participant.name == "epoll" }

    /// A run has some dozens of calls of a kind; one that never comes to be untouched is a mistake of the sweep.
    private static let mostCalls = 2_000
    /// Nothing here takes so long, unless it hangs.
    private static let longest: Duration = .seconds(1)
    /// A machine that is busy with something else is late now and then; a hang is there each time.
    private static let attempts = 3
    /// Nor does it take so many times as long as the same without faults at the same moment, however busy it is.
    private static let slowest = 20

    /// What follows would only be more of the same.
    private static let mostFailures = 10

    /// The whole sweep, or some workloads of it, or each kind's first `most` calls; less if too much goes wrong.
    package func sweep(
        _ workloads: [HardWorkload], upTo most: Int?, _ progress: (String) -> Void, _ result: inout FaultResult
    ) {
        for workload in workloads {
            for (call, errnos) in Self.kinds where concerns(call) {
                for errno in errnos {
                    for isForEver in [false, true] {
                        for number in 1...(most ?? Self.mostCalls) {
                            let plan = FaultPlan.hard(call: call, errno: errno, at: number, isForEver: isForEver)
                            progress("\(workload.rawValue), \(plan)")
                            if !play(workload, plan, &result) { break }
                            if result.failures.count >= Self.mostFailures { return }
                        }
                    }
                }
            }
        }
    }

    /// libuv does not tell how much of a write has left that fails in the end.
    private func countsExactly(_ plan: FaultPlan) -> Bool {
        if participant.name == "libuv", case .hard("write", _, _, _) = plan { false } else { true }
    }

    /// How long a case may take on a machine that is as busy as it is now.
    private func patience(_ workload: HardWorkload) -> Duration {
        let scenario = workload.scenario(HardWorkload.Tally(), library, .off)
        let report = Parity.run(scenario, on: [library.hitting(participant, .off)])
        return max(Self.longest, report.outcomes[0].duration * Self.slowest)
    }

    /// Plays one case; whether a call was left to fail.
    @discardableResult
    package func play(_ workload: HardWorkload, _ plan: FaultPlan, _ result: inout FaultResult) -> Bool {
        var wasHit = false
        for attempt in 1...Self.attempts {
            let before = library.injected
            let tally = HardWorkload.Tally()
            let scenario = workload.scenario(tally, library, plan)
            let hit = library.hitting(participant, plan)
            let report = Parity.run(scenario, on: [hit], isAlone: true)
            wasHit = library.injected > before
            let duration = report.outcomes[0].duration
            let isLate = duration > Self.longest && report.isEqual && duration > patience(workload)
            if isLate, attempt < Self.attempts { continue }
            result.played += 1
            result.longestStall = max(result.longestStall, duration)
            let divergences = report.divergences.filter { !plan.isMemoryForEver || !$0.text.contains("the loop spun") }
            var failures = divergences.map { "\($0)" } + tally.failures(wasHit: wasHit, plan)
            if tally.bytesWritten < report.outcomes[0].peerByteCount, countsExactly(plan) {
                failures.append("the peers got more than bytesWritten says")
            }
            if isLate { failures.append("it took \(duration)") }
            for text in failures {
                result.failures.append(
                    FaultResult.Failure(
                        text: "\(workload.rawValue), \(plan): \(text)",
                        repetition: "--workload \(workload.rawValue) --plan \"\(plan)\""))
            }
            break
        }
        return wasHit
    }
}

extension FaultPlan {
    /// The one failure that every engine tries again without an end but the write time-out: the kernel calls the socket
    /// writable and then has no memory. libuv does so (`uv__try_write`), and the others do the same.
    fileprivate var isMemoryForEver: Bool {
        if case .hard("write", "ENOBUFS", _, true) = self { true } else { false }
    }
}
