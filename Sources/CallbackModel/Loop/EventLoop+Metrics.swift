extension EventLoop {
    /// Which callback it is.
    public enum CallbackKind: String, Hashable, Sendable, CaseIterable {
        /// ``Connection/onOpen``.
        case open
        /// ``Connection/onData``.
        case data
        /// ``Connection/onEnd``.
        case end
        /// ``Connection/onDrain``.
        case drain
        /// ``Connection/onTimeout``.
        case timeout
        /// The completion of a write.
        case completion
        /// ``Connection/onClose`` and ``Listener/onClose``.
        case close
        /// The listener's callback for a new connection.
        case connection
        /// A step of a TLS handshake, and what is called when it fails.
        case handshake
        /// ``Listener/onShed``.
        case shed
        /// ``Listener/onError``.
        case error
        /// ``EventLoop/onOverload``.
        case overload
        /// The end of ``Listener/drain(within:forcing:_:)``.
        case drained
        /// A timer's.
        case timer
        /// A signal watcher's.
        case signal
        /// The answer of ``EventLoop/resolve(host:port:_:)``.
        case resolved
        /// What another thread gave to ``Waker/execute(_:)``.
        case executed
        /// The result of ``EventLoop/offload(_:then:)``.
        case offloaded
        /// Tasks of the main actor, or tasks and actors on the loop's executor, as many as run in one go.
        case tasks
        /// What a group calls on its first loop, besides what a listener calls.
        case group
    }

    /// How long one callback has run.
    public struct CallbackTime: Hashable, Sendable {
        /// Which.
        public let kind: CallbackKind
        /// From its call to its return, with what it wrote sent.
        public let duration: Duration
    }

    /// What a loop has done so far.
    public struct Metrics: Hashable, Sendable {
        /// Turns, each of which has waited for events once.
        public let turns: UInt64
        /// What the engine has told: bytes read, clients, room to write, closes, timers due, signals.
        public let events: UInt64
        /// Callbacks that have run.
        public let callbacks: UInt64
        /// How long the loop has waited for events.
        public let timeAsleep: Duration
        /// The callback that ran for longest so far; `nil` before the first.
        public let longestCallback: CallbackTime?
    }

    /// The figures so far; zeros unless ``Options/collectsMetrics`` is set.
    public var metrics: Metrics {
        // Callbacks may be measured for the warning alone.
        guard core.collectsMetrics, !core.isShutDown else {
            return Metrics(turns: 0, events: 0, callbacks: 0, timeAsleep: .zero, longestCallback: nil)
        }
        let counts = core.counts
        return Metrics(
            turns: core.driver.turnCount, events: counts.events, callbacks: counts.callbacks,
            timeAsleep: .nanoseconds(Int64(clamping: core.driver.nanosecondsAsleep)),
            longestCallback: counts.longestCallback)
    }

    /// Calls `body` after each callback that has run for `threshold` or longer: no other connection was served
    /// meanwhile.
    ///
    /// `body` runs inside the loop, right after the callback that it is told about, and is not measured itself. It
    /// costs each callback two looks at the clock. A second call replaces the first.
    ///
    /// - Precondition: `threshold` is more than zero.
    public func onSlowCallback(longerThan threshold: Duration, _ body: @escaping (CallbackTime) -> Void) {
        require(threshold > .zero, "onSlowCallback: the threshold \(threshold) is not more than zero")
        core.warnOfCallbacks(longerThan: threshold, body)
    }
}

/// What `LoopCore` counts if metrics or a warning were asked for.
struct LoopCounts {
    var events: UInt64 = 0
    var callbacks: UInt64 = 0
    var longestCallback: EventLoop.CallbackTime?
    var threshold: Duration?
    var onSlow: ((EventLoop.CallbackTime) -> Void)?
}

extension LoopCore {
    /// After a callback that began at `start`, in nanoseconds of the loop's clock.
    func noteCallback(_ kind: EventLoop.CallbackKind, since start: UInt64) {
        let duration = Duration.nanoseconds(Int64(clamping: driver.nanoseconds &- start))
        let time = EventLoop.CallbackTime(kind: kind, duration: duration)
        counts.callbacks += 1
        if duration > counts.longestCallback?.duration ?? .zero { counts.longestCallback = time }
        guard let threshold = counts.threshold, duration >= threshold, let onSlow = counts.onSlow else { return }
        together { onSlow(time) }
    }

    /// The engine has told something.
    func noteEvent() {
        if isTimed { counts.events += 1 }
    }
}
