// What ties a connection to its loop, and what can be told by which connection it is.

extension Connection {
    /// The loop that the connection belongs to.
    ///
    /// A callback of an open connection that captures it keeps the loop for ever: ask for it inside the callback
    /// instead.
    ///
    /// - Precondition: the loop has not been let go.
    public var loop: EventLoop { core.requireLoop("Connection.loop") }

    /// Calls `body` once after `delay`, then, if `repeating` is given, again at each interval, as
    /// ``EventLoop/schedule(after:repeating:_:)`` does, until the connection closes.
    ///
    /// The connection owns the timer while it is armed, and cancels it when it begins to close: `body` never runs after
    /// ``close()``, ``reset()`` or whatever else is followed by `onClose` alone. What the body of an armed timer
    /// captured is let go then. It still runs after ``end()`` and after the peer's FIN. Once the connection closes, the
    /// timer stays at rest, also if it is armed anew.
    ///
    /// - Precondition: `delay` is not negative and `repeating` is at least one millisecond.
    @discardableResult
    public func schedule(
        after delay: Duration, repeating: Duration? = nil, _ body: @escaping (Connection, EventLoop.Timer) -> Void
    ) -> EventLoop.Timer {
        core.assertThread("Connection.schedule")
        require(delay >= .zero, "a connection's timer cannot fire \(delay) from now: the delay is negative")
        guard isUsable else {
            let timer = EventLoop.Timer(core: core, interval: repeating) { _ in }
            timer.abandon()
            return timer
        }
        let timer = EventLoop.Timer(core: core, interval: repeating) { [unowned self] timer in body(self, timer) }
        let rare = needRare()
        let timers = rare.timers ?? OwnedTimers()
        rare.timers = timers
        timer.owner = timers
        timer.reschedule(after: delay)
        return timer
    }

    /// Cancels the timers of ``schedule(after:repeating:_:)`` for good.
    func endTimers() {
        guard let timers = rare?.timers else { return }
        rare?.timers = nil
        timers.end()
    }
}

extension Connection: Hashable, Identifiable {
    /// A connection is equal to itself alone.
    public static func == (left: Connection, right: Connection) -> Bool { left === right }

    /// By identity.
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}
