// What happens while the queues of all connections together hold too much.

extension EventLoop {
    /// A step of an overload: the queues of the loop's connections together hold too much (``Options/maxQueuedBytes``).
    public enum OverloadEvent: Hashable, Sendable {
        /// More than three quarters of the limit is queued: connections above their share are not read.
        case began
        /// `count` connections were reset, with ``CloseReason/shed``: the longest queues when the limit was passed, or
        /// queues that did not move for 10 seconds.
        case shed(count: Int)
        /// Half of the limit is queued or less: every connection is read again.
        case ended
    }

    /// Called when an overload begins, when connections are shed, and when it ends.
    ///
    /// Runs in a later turn. An overload that begins and ends before that turn is told only if a connection was shed.
    /// If the loop is overloaded when this is set, ``OverloadEvent/began`` is told.
    ///
    /// The loop owns the callback: a strong reference to the loop in it is never released.
    public var onOverload: ((OverloadEvent) -> Void)? {
        get { core.overload.callback }
        set {
            core.assertThread("EventLoop.onOverload")
            letGo(of: core.overload.callback) { core.overload.setCallback(newValue) }
            core.overloadChanged()
        }
    }
}

/// An overload of a loop, and what was told of it.
struct Overload {
    /// From three quarters of the limit on, until half of it is left: see ``EventLoop/Options/maxQueuedBytes``.
    var isOn = false
    /// How many connections have something queued, and so share the limit.
    var queueingCount = 0

    private(set) var callback: ((EventLoop.OverloadEvent) -> Void)?
    /// What the callback was told.
    private var isToldOn = false
    private var untoldShedCount = 0
    /// Whether the next turn tells.
    private var isPutOff = false

    /// 10 looks, a second apart, at a queue that does not move: then it is shed. A slow reader moves its queue, or lets
    /// its kernel acknowledge, more often than that (`Tuning` has figures).
    static let mostLooks = 10

    /// A new callback was told of no overload yet.
    mutating func setCallback(_ callback: ((EventLoop.OverloadEvent) -> Void)?) {
        self.callback = callback
        isToldOn = false
        untoldShedCount = 0
    }

    mutating func noteShed() { untoldShedCount += 1 }

    /// Whether there is something to tell that the next turn does not tell yet.
    mutating func mustPutOff() -> Bool {
        guard callback != nil, !isPutOff, isOn != isToldOn || untoldShedCount > 0 else { return false }
        isPutOff = true
        return true
    }

    mutating func removeEvents() -> [EventLoop.OverloadEvent] {
        isPutOff = false
        var events: [EventLoop.OverloadEvent] = []
        if !isToldOn, isOn || untoldShedCount > 0 { events.append(.began) }
        if untoldShedCount > 0 { events.append(.shed(count: untoldShedCount)) }
        if !isOn, isToldOn || untoldShedCount > 0 { events.append(.ended) }
        isToldOn = isOn
        untoldShedCount = 0
        return events
    }
}
