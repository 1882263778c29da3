// What the kernel is asked before a passed time-out ends a connection.

extension Connection {
    /// What was found at time-outs that had passed. Made at the first one, so that other connections do not pay for it.
    struct PassedTimeouts {
        /// Why a time-out that has passed does not count yet.
        struct Look {
            /// What the time-out counts from; something that happens later makes this look worthless.
            let since: UInt64
            /// When to look again.
            var nextLook: UInt64 = 0
            /// How often the kernel had something for the loop to do.
            var count = 0
            /// Whether it was given more time since the loop had stalled.
            var madeUpForStall = false
        }

        private var looks: [TimeoutKind: Look] = [:]
        /// What was sent, as it was at the last look.
        var lastProgress: (at: UInt64, is: SendProgress)?

        subscript(kind: TimeoutKind, since start: UInt64) -> Look? {
            get { looks[kind].flatMap { $0.since == start ? $0 : nil } }
            set { looks[kind] = newValue }
        }
    }

    /// 100 looks at what is ready for a connection, a turn apart. 100 waits reach each of 20,000 descriptors: one of
    /// epoll gives 256. More would keep a connection that the kernel calls ready and for which nothing moves.
    private static let mostLooks = 100

    /// Whether `passed` does not end the connection yet. Asks the kernel, which is done for no activity, only here.
    func isExtended(_ passed: Countdown, now: UInt64) -> Bool {
        if waitsForLoop(passed.kind), extend(passed, toNextTurnAfter: now) { return true }
        if hasProgressed(passed, now: now) { return true }
        return extendAfterStall(passed, now: now)
    }

    /// Whether the kernel has something for the loop to do, which would put off this time-out.
    private func waitsForLoop(_ kind: TimeoutKind) -> Bool {
        switch kind {
        case .connect: layer?.isWaitingForLoop ?? driver.hasRoom
        case .read: readsInput && driver.hasInput
        case .write, .saturated: driver.hasRoom
        case .idle, .minimumRate: readsInput && driver.hasInput || queuedByteCount > 0 && driver.hasRoom
        case .close where isFinishing: readsInput && driver.hasInput || queuedByteCount > 0 && driver.hasRoom
        case .close: lifecycle == .readingOut ? readsInput && driver.hasInput : driver.hasRoom
        }
    }

    /// A paused connection's input does not count: it is this side that does not read it.
    private var readsInput: Bool { input.flows }

    /// Looks again when the engine has read and written once more.
    private func extend(_ passed: Countdown, toNextTurnAfter now: UInt64) -> Bool {
        change(passed) { look in
            guard look.count < Self.mostLooks else { return false }
            look.count += 1
            look.nextLook = now + 1
            return true
        }
    }

    /// The peer was silent while the loop did not look, and perhaps only because it waited for the loop. It has the
    /// time of the stall again, at most the whole limit. Once only, or a loop that is always late would keep dead
    /// peers.
    private func extendAfterStall(_ passed: Countdown, now: UInt64) -> Bool {
        let stall = core.timeouts.lastStall
        guard stall.end > passed.since else { return false }
        // Each deadline moves by as much, so they keep their order, and at most by the whole limit.
        let (length, isLong) = stall.lateness.multipliedReportingOverflow(by: TimeoutQueue.Stall.parts)
        let whole = stall.end + passed.limit
        let end = isLong || length > whole ? whole : min(passed.since + passed.limit + 1 + length, whole)
        guard end > now else { return false }
        return change(passed) { look in
            guard !look.madeUpForStall else { return false }
            look.madeUpForStall = true
            look.nextLook = end
            return true
        }
    }

    private func change(_ passed: Countdown, _ body: (inout PassedTimeouts.Look) -> Bool) -> Bool {
        var timeouts = rare?.passedTimeouts ?? PassedTimeouts()
        var look = timeouts[passed.kind, since: passed.since] ?? PassedTimeouts.Look(since: passed.since)
        guard body(&look) else { return false }
        timeouts[passed.kind, since: passed.since] = look
        needRare().passedTimeouts = timeouts
        return true
    }

    // MARK: Slow is not dead

    /// Whether the peer has taken bytes that are in the kernel. The queue does not show it: the kernel takes more only
    /// when a third of its buffer is free (POLLOUT).
    private func hasProgressed(_ passed: Countdown, now: UInt64) -> Bool {
        guard passed.kind == .write || passed.kind == .idle || isFinishing, let progress = driver.sendProgress else {
            return false
        }
        var timeouts = rare?.passedTimeouts ?? PassedTimeouts()
        // A look from before the last activity says nothing about the time since then.
        let last = timeouts.lastProgress.flatMap { $0.at >= passed.since ? $0.is : nil }
        timeouts.lastProgress = (now, progress)
        needRare().passedTimeouts = timeouts
        let moment = progressMoment(of: progress, after: last, passed, now: now)
        guard moment > passed.since else { return false }
        lastWriteAt = moment
        return true
    }

    /// When bytes were last taken, as far as it can be known; 0 if none were since the countdown began.
    private func progressMoment(
        of progress: SendProgress, after last: SendProgress?, _ passed: Countdown, now: UInt64
    ) -> UInt64 {
        switch (progress, last) {
        case (.acknowledged(let new, _), .acknowledged(let old, _)?): return new > old ? now : 0
        case (.untaken(let new, _), .untaken(let old, _)?): return new < old ? now : 0
        // The first look of this silence.
        case (.acknowledged(_, let before), _):
            let madeAt = now - min(before, now)
            return madeAt > passed.since + Self.kernelTick ? madeAt : 0
        // With bytes queued here, the kernel was full when the last of them left.
        case (.untaken(let new, let full), _) where queuedByteCount > 0: return new < full ? now : 0
        case (.untaken(let new, _), _): return new > 0 ? now : 0
        }
    }

    /// 10 ms: the kernel notes times in jiffies, of which there are 100 to 1,000 a second (time(7)).
    private static let kernelTick: UInt64 = 10
}
