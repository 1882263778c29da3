// When a connection has waited for too long.

extension Connection {
    /// Looks at which time-outs count now and tells the queue when to look again. Called whenever one may
    /// have begun to count; activity alone only moves `lastReadAt` and `lastWriteAt`.
    func timeoutsChanged() {
        guard lifecycle == .open || lifecycle == .connecting || isBoundedByClose else { return }
        let times = sharedOptions.value.timeouts
        let tracks = times.idle != nil || times.read != nil || times.write != nil || isFinishing
        if tracks, !watch.contains(.timeouts) {
            // Activity was not noted so far: the past does not count.
            lastReadAt = core.milliseconds
            lastWriteAt = lastReadAt
        }
        if tracks { watch.insert(.timeouts) } else { watch.remove(.timeouts) }
        guard let deadline = nextTimeout()?.deadline else { return core.timeouts.remove(self) }
        core.timeouts.set(self, deadline: deadline, core: core)
    }

    /// Whether only ``Timeouts/close`` counts.
    private var isBoundedByClose: Bool {
        lifecycle == .flushing || lifecycle == .readingOut
    }

    /// A time-out that counts, in milliseconds of the loop's clock.
    struct Countdown {
        let kind: TimeoutKind
        /// What it waits for has not happened since then.
        let since: UInt64
        let limit: UInt64
        /// Later than `since` and `limit` say if the passed time-out was given more time.
        let deadline: UInt64
    }

    /// The earliest time-out that counts.
    private func nextTimeout() -> Countdown? {
        let times = sharedOptions.value.timeouts
        var earliest: Countdown?
        func consider(_ kind: TimeoutKind, _ time: Duration?, since start: UInt64) {
            guard let time else { return }
            let limit = UInt64(time.wholeMilliseconds)
            // One millisecond more, since `start` was truncated to whole ones: a time-out is never early.
            let deadline = max(start + limit + 1, rare?.passedTimeouts?[kind, since: start]?.nextLook ?? 0)
            guard deadline < earliest?.deadline ?? .max else { return }
            earliest = Countdown(kind: kind, since: start, limit: limit, deadline: deadline)
        }
        if isBoundedByClose {
            if let start = rare?.closingSince { consider(.close, times.close, since: start) }
            return earliest
        }
        if lifecycle == .connecting {
            consider(.connect, times.connect, since: openedAt)
            return earliest
        }
        let starts = rare?.timeoutStarts ?? TimeoutStarts()
        // A peer that the loop itself does not read is not silent.
        if input != .held { consider(.idle, times.idle, since: max(lastReadAt, lastWriteAt, starts.idle)) }
        if isFinishing {
            consider(.close, rare?.finishLimit, since: finishingSince)
        } else if input.flows {
            consider(.read, times.read, since: max(lastReadAt, starts.read))
        }
        if queuedByteCount > 0 { consider(.write, times.write, since: max(lastWriteAt, starts.write)) }
        if isSaturated { consider(.saturated, times.saturated, since: max(starts.saturated, openedAt)) }
        if let rate = times.minimumRate { consider(.minimumRate, rate.window, since: rateWindow().start) }
        return earliest
    }

    /// The deadline in the queue has come; `now` is read from the clock.
    func timeoutsDue(now: UInt64) {
        noteProgress()
        // A long write of which an engine tells only at its end may have left the queue short enough for `onDrain`.
        if isOwedSomething { putOffDelivery() }
        guard let passed = nextTimeout(), passed.deadline <= now else { return timeoutsChanged() }
        // What the kernel knows comes first: the loop may have been late to look.
        if isExtended(passed, now: now) { return timeoutsChanged() }
        let kind = passed.kind
        if kind == .minimumRate, let rate = sharedOptions.value.timeouts.minimumRate, !isTooSlow(for: rate) {
            return timeoutsChanged()
        }
        if kind == .close, isFinishing { return finishingTimedOut() }
        // Everything has left, and what the layer has waited for does not come.
        if kind == .close, lifecycle == .flushing, queuedByteCount == 0 { return closeDriver() }
        var action = TimeoutAction.close
        if kind != .close, let onTimeout = rare?.onTimeout {
            core.perform(.timeout) { action = onTimeout(self, kind) }
        }
        guard lifecycle == .open || lifecycle == .connecting || isBoundedByClose else { return }
        switch action {
        case .keep where kind == .connect:
            openedAt = now
            timeoutsChanged()
        case .keep:
            if kind == .minimumRate { rare?.rateWindow = nil } else { restartTimeout(kind) }
            timeoutsChanged()
        case .close:
            // The user's own close, in `onTimeout`, has its time to flush.
            if kind != .close, isBoundedByClose { return }
            noteCause(.timedOut(kind))
            // FIN behind bytes that the peer does not take would keep them in the kernel for many minutes.
            closeDriverInOrder(resetting: isPeerOwed || lifecycle == .open && driver.hasUnacknowledged)
        case .reset:
            noteCause(.timedOut(kind))
            closeDriver(resetting: true)
        }
    }

    // MARK: Since when they count

    /// The options were `old`: what is new in them counts from now, however old the connection is.
    func timeoutsSet(_ old: Timeouts) {
        let new = sharedOptions.value.timeouts
        if new.idle != nil, new.idle != old.idle { restartTimeout(.idle) }
        if new.read != nil, new.read != old.read { restartTimeout(.read) }
        if new.write != nil, new.write != old.write { restartTimeout(.write) }
        if new.saturated != nil, new.saturated != old.saturated { restartTimeout(.saturated) }
        if new.minimumRate != old.minimumRate { rare?.rateWindow = nil }
    }

    /// Whether a write returned `.saturated` and the queue has not fallen to the low water mark since.
    private var isSaturated: Bool {
        watch.contains(.saturated) && bufferedByteCount > sharedOptions.value.lowWaterMark
    }

    /// A write returns `.saturated`, for the first time since the last `onDrain`.
    func saturationBegins() {
        guard sharedOptions.value.timeouts.saturated != nil else { return }
        restartTimeout(.saturated)
        timeoutsChanged()
    }

    /// Reading has begun again: the time before it was not the peer's silence.
    func readTimeoutBegins() {
        resumeRateWindow()
        if sharedOptions.value.timeouts.read != nil { restartTimeout(.read) }
    }

    /// The loop has not read the connection so far: the peer's silence counts from now.
    func silenceBegins() {
        readTimeoutBegins()
        if sharedOptions.value.timeouts.idle != nil { restartTimeout(.idle) }
    }

    private func restartTimeout(_ kind: TimeoutKind) {
        guard lifecycle != .closed else { return }
        needRare().timeoutStarts.set(kind, to: core.milliseconds)
    }

    /// From when each time-out counts at the earliest, in milliseconds of the loop's clock. Apart from the times of
    /// activity, so that one time-out that is kept does not put off the others.
    struct TimeoutStarts {
        private(set) var idle: UInt64 = 0
        private(set) var read: UInt64 = 0
        private(set) var write: UInt64 = 0
        private(set) var saturated: UInt64 = 0

        mutating func set(_ kind: TimeoutKind, to now: UInt64) {
            switch kind {
            case .idle: idle = now
            case .read: read = now
            case .write: write = now
            case .saturated: saturated = now
            case .minimumRate, .connect, .close: break
            }
        }
    }
}
