// The defence against a peer that sends or takes a byte at a time.

extension Connection {
    /// How fast a peer has to be while it owes something.
    ///
    /// In each window, the bytes that were read and those that the peer has taken are counted together. If they are
    /// fewer than the rate asks for, the time-out ``TimeoutKind/minimumRate`` passes. A window counts if the peer owed
    /// something from its beginning to its end:
    ///
    /// - the rest of a line, a message or a frame, of which the beginning has come
    ///   (``Connection/onLines(limit:delimiter:_:)`` and the others);
    /// - with ``Connection/onData`` anything, for as long as the connection reads: what a message is, only the user
    ///   knows. Set the rate when one begins, and `nil` when it is whole (``Connection/options``);
    /// - to take what was written to it; from a Unix socket, what is queued.
    ///
    /// A peer that is too slow from some moment on ends after at most two windows.
    public struct MinimumRate: Hashable, Sendable {
        /// At least 1.
        public var bytesPerSecond: Int
        /// From 1 s to 1 day. A slow reader's kernel acknowledges in lumps: at 20 kB/s and with the default buffer up
        /// to 6.5 s apart (measured on Linux 6.18). A shorter window would take its silence for its rate.
        public var window: Duration

        /// At least `bytesPerSecond` bytes a second, over each `window`.
        public init(bytesPerSecond: Int, window: Duration = .seconds(15)) {
            self.bytesPerSecond = bytesPerSecond
            self.window = window
        }

        /// The least number of bytes of a window.
        var leastBytes: UInt64 {
            let milliseconds = UInt64(window.wholeMilliseconds)
            // Rounded up: at one byte a second, a window of a second and a half asks for two.
            return (UInt64(bytesPerSecond) * milliseconds + 999) / 1000
        }

        func validate() throws(IOError) {
            guard (1...1 << 30).contains(bytesPerSecond) else {
                throw .invalid("timeout", "a minimum rate of \(bytesPerSecond) bytes a second is not 1 to \(1 << 30)")
            }
            guard (.seconds(1) ... .seconds(86_400)).contains(window) else {
                throw .invalid("timeout", "a minimum rate's window of \(window) is not between 1 s and 1 day")
            }
        }
    }

    /// A window of a minimum rate, as things were when it began.
    struct RateWindow {
        /// Later by each time in which the connection did not read.
        var start: UInt64
        /// Since when it does not; `nil` while it does.
        var pausedAt: UInt64?
        /// What had passed of the window when a pause outlasted it, in milliseconds; `start` is a later moment then.
        var spent: UInt64 = 0
        let moved: UInt64
        let input: InputDebt
        /// Bytes that were written before `acceptedAt`: the peer owes to take them.
        var accepted: UInt64
        var acceptedAt: UInt64
    }

    /// What the peer owes to send.
    enum InputDebt: Equatable {
        case none
        /// Anything: what a message is, `onData` knows alone.
        case anything
        /// The rest of the frame that begins at this position of what was read.
        case rest(of: UInt64)
    }

    /// Also while the connection pauses, since only the time stands still then.
    private var inputDebt: InputDebt {
        guard input.flows || isHalted, !isFinishing else { return .none }
        guard let framing = rare?.framing, framing.framer != nil else { return .anything }
        let pending = framing.pendingCount
        return pending > 0 ? .rest(of: bytesRead - UInt64(pending)) : .none
    }

    /// Whether the connection does not read for now.
    private var isHalted: Bool { input == .paused || input == .held }

    /// Bytes that the peer has taken, as far as the kernel tells.
    private var takenByteCount: UInt64 {
        switch driver.sendProgress {
        case .acknowledged(let count, _): layer.map { takenByteCount(count, $0) } ?? count
        // In a Unix socket the kernel counts its own memory too, so only what is queued here tells of the peer.
        case .untaken, nil: bytesWritten
        }
    }

    /// The window under way; a new one if there is none.
    func rateWindow() -> RateWindow {
        if let window = rare?.rateWindow { return window }
        let now = core.milliseconds
        let window = RateWindow(
            start: now, pausedAt: isHalted ? now : nil, moved: bytesRead &+ takenByteCount, input: inputDebt,
            accepted: acceptedByteCount, acceptedAt: now)
        needRare().rateWindow = window
        return window
    }

    /// Reading stops: the peer can send nothing, and the time does not count.
    func pauseRateWindow() {
        rare?.rateWindow?.pausedAt = core.milliseconds
    }

    func resumeRateWindow() {
        // A pause that turns into the loop's own, or the other way round, goes on.
        guard input.flows else { return }
        rare?.rateWindow?.endPause(at: core.milliseconds)
    }

    /// The window is over. Whether the peer was too slow; if not, the next one begins.
    func isTooSlow(for rate: MinimumRate) -> Bool {
        var window = rateWindow()
        rare?.rateWindow = nil
        let moved = bytesRead &+ takenByteCount &- window.moved
        guard moved < rate.leastBytes else { return false }
        let now = core.milliseconds
        // Whether it has had the whole window to take what was written.
        let isDueToTake = now - window.acceptedAt >= UInt64(rate.window.wholeMilliseconds)
        if isDueToTake, min(takenByteCount, bytesWritten) < window.accepted { return true }
        guard window.input != .none, window.input == inputDebt else { return false }
        guard let pausedAt = window.pausedAt else { return true }
        // Part of the window was a pause that still lasts: the peer has the rest of it afterwards.
        window.spent += pausedAt - window.start
        window.start = now
        window.pausedAt = now
        if isDueToTake { (window.accepted, window.acceptedAt) = (acceptedByteCount, now) }
        rare?.rateWindow = window
        return false
    }
}

extension Connection.RateWindow {
    mutating func endPause(at now: UInt64) {
        guard let pausedAt else { return }
        start = now - (spent + pausedAt - start)
        spent = 0
        self.pausedAt = nil
    }
}
