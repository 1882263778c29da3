extension Listener {
    /// What a drain does at its deadline to the connections that are still open.
    public enum Forcing: Hashable, Sendable {
        /// Resets them. Their last answer may not be whole, and a peer cannot take a part for the whole then.
        case reset
        /// Sends FIN to those for which no byte is queued and no pipe brings any. The others are reset. It suits
        /// protocols whose messages tell where they end.
        case close
    }

    /// Stops listening, lets the open connections finish, and ends those that have not after `limit`, with
    /// ``CloseReason/drainDeadline``. Then calls `done`, once, with what became of them.
    ///
    /// Clients that wait in the kernel's backlog are accepted first, as far as ``Options/maxConnections`` allows before
    /// the deadline: they have connected, and the kernel would reset them. Then the socket closes, at the latest when
    /// as many were accepted as the backlog holds.
    ///
    /// Draining only waits: the user ends connections that are no longer needed. A second drain replaces the deadline
    /// and the callback of the first, which is not called.
    ///
    /// - Precondition: `limit` is not negative.
    public func drain(
        within limit: Duration, forcing: Forcing = .reset, _ done: @escaping (DrainReport) -> Void
    ) {
        require(limit >= .zero, "a listener cannot drain within \(limit): the time is negative")
        core.assertThread("Listener.drain")
        // A drain holds the listener until it ends, and without its loop it would never end.
        guard !core.isShutDown else { return }
        let deadline = EventLoop.Timer(core: core, interval: nil, isInternal: true) { _ in self.endDrain() }
        drain?.deadline.cancel()
        letGo(of: drain) {
            drain = Drain(
                deadline: deadline, forcing: forcing, report: drain?.report ?? DrainReport(),
                lastClients: drain?.lastClients ?? options.backlog + 1, done: done)
        }
        core.add(self)
        if isOpen { acceptLast() }
        if state == .acceptingLast || state == .fullWithLast, part?.index != nil { lookForLastClients() }
        // Also if it is empty already: no callback runs inside a call.
        deadline.reschedule(after: isEmpty ? .zero : limit)
    }

    struct Drain {
        let deadline: EventLoop.Timer
        let forcing: Forcing
        var report: DrainReport
        /// How many clients are still accepted at most. At first one more than the backlog, as many as the kernel keeps
        /// (sk_acceptq_is_full in include/net/sock.h).
        var lastClients: Int
        let done: (DrainReport) -> Void
    }

    /// Other loops of a group accept from the same socket, so no client may come to tell this one that none is left.
    private func lookForLastClients() {
        let look = EventLoop.Timer(core: core, interval: .milliseconds(10), isInternal: true) { timer in
            guard self.drain != nil, self.state == .acceptingLast || self.state == .fullWithLast else {
                return timer.cancel()
            }
            self.wakeUpEnded()
        }
        look.reschedule(after: .milliseconds(10))
    }

    /// Closes, or first accepts the clients that wait.
    private func acceptLast() {
        guard driver.hasWaitingClients else { return close() }
        enter(.acceptingLast)
        waitIfFull()
    }

    /// What `ListenerDriver.wakeUpEnded` does.
    func wakeUpEnded() {
        part?.returnPlace()
        guard let drain, state == .acceptingLast || state == .fullWithLast else { return }
        if drain.lastClients <= 0 || !driver.hasWaitingClients { close() }
    }

    /// Whether no connection is open, and none will be.
    private var isEmpty: Bool {
        connectionCount == 0 && (state == .closing || state == .closed)
    }

    /// The deadline has come, or no connection was open.
    private func endDrain() {
        close()
        guard let drain, connectionCount > 0 else { return drainedIfDone() }
        core.connections.forEach { if $0.listener === self { $0.closeAtDrainDeadline(drain.forcing) } }
    }

    func drainedIfDone() {
        guard isEmpty, let drain else { return }
        self.drain = nil
        drain.deadline.cancel()
        letGoIfDone()
        // A loop that is let go calls no callback.
        guard !core.isShutDown else { return }
        core.perform(.drained) { drain.done(drain.report) }
    }
}

/// What became of the connections that were open while a listener drained.
public struct DrainReport: Hashable, Sendable {
    /// How many closed for which reason; errors are counted without their addresses.
    public private(set) var reasons: [CloseReason: Int] = [:]

    /// How many had been sent everything when they closed, also by a time-out.
    public private(set) var finished = 0

    /// How many this side ended before that: at the deadline, or with a reset by a time-out, by
    /// ``Connection/reset()`` or to shed load.
    public private(set) var forced = 0

    /// How many the peer or the network ended: ``CloseReason/peerReset``, ``CloseReason/truncated`` and
    /// ``CloseReason/failed(_:)``.
    public private(set) var broken = 0

    /// How many are still open on loops of a group that hang, and were not waited for.
    public internal(set) var unanswered = 0

    /// What became of the connections of another loop, too.
    mutating func add(_ other: DrainReport) {
        reasons.merge(other.reasons, uniquingKeysWith: +)
        finished += other.finished
        forced += other.forced
        broken += other.broken
        unanswered += other.unanswered
    }

    mutating func count(_ reason: CloseReason, wasReset: Bool) {
        switch reason {
        case .peerReset, .truncated, .failed: broken += 1
        case .drainDeadline, .shed, .localReset: forced += 1
        case .localClose, .peerClosed, .timedOut: if wasReset { forced += 1 } else { finished += 1 }
        }
        guard case .failed(let error) = reason else { return reasons[reason, default: 0] += 1 }
        reasons[.failed(IOError(call: error.call, errno: error.errno)), default: 0] += 1
    }
}
