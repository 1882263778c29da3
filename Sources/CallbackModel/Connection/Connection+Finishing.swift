// The polite end: the peer can still read all of what was written to it.

extension Connection {
    /// Sends what is queued, then FIN, and closes when the peer's FIN has come. What the peer sends until then is read
    /// and dropped.
    ///
    /// Use it after a last message, such as a refusal. ``close()`` with bytes unread makes the kernel send RST, which
    /// can cost the peer what it has not read yet (RFC 9112, section 9.6). ``end()`` alone lets the peer keep the
    /// connection.
    ///
    /// The peer has `limit`, in whole milliseconds. The time begins anew whenever bytes leave the queue or the peer's
    /// kernel acknowledges some, so a slow reader gets everything. When the time has passed without that:
    ///
    /// - If bytes are queued or not acknowledged, the connection is reset and closes with ``CloseReason/timedOut(_:)``
    ///   and ``TimeoutKind/close``. A Unix socket has no RST: what waits in the socket stays readable to the peer,
    ///   behind it comes an end like any other, and the peer cannot tell that queued bytes are missing.
    /// - If the peer has everything and only does not close, the connection closes as by ``close()``.
    ///
    /// The kernel is asked when the time has passed, so a peer that stops taking bytes is ended after at most twice the
    /// limit. The other time-outs count as before, apart from ``Timeouts/read``. The deadline of
    /// ``Listener/drain(within:forcing:_:)`` ends the connection too.
    ///
    /// `onData` is set to `nil`, a pause ends, and a pipe from this connection is cut: its target is reset, since the
    /// rest will not come. A second call may shorten the time, and never makes it longer. On a connection that closes
    /// already, this does nothing.
    ///
    /// - Precondition: `limit` is not negative.
    public func finish(within limit: Duration) {
        require(limit >= .zero, "a connection cannot finish within \(limit): the time is negative")
        core.assertThread("Connection.finish")
        guard isUsable else { return }
        end()
        // The flush may have failed. What the peer had sent before its reset is then delivered, for a bounded time.
        guard isUsable, lifecycle != .readingOut else { return }
        dropInput()
        let rare = needRare()
        let now = core.milliseconds
        if let earlier = rare.finishLimit {
            // A time-out that finishes again, and keeps the connection each time, would otherwise keep it for ever.
            let deadline = finishingSince + UInt64(earlier.wholeMilliseconds)
            guard now + UInt64(limit.wholeMilliseconds) < deadline else { return }
        }
        rare.finishLimit = limit
        rare.closingSince = now
        timeoutsChanged()
    }

    /// From now on only the peer's end matters.
    private func dropInput() {
        onData = nil
        if let rare, let target = rare.pipeTarget {
            rare.pipeTarget = nil
            target.rare?.pipeSource = nil
            rare.pipePause = .none
            target.reset()
        }
        resume()
    }

    /// Whether ``finish(within:)`` waits for the peer.
    var isFinishing: Bool { lifecycle == .open && rare?.finishLimit != nil }

    /// Since when the limit of ``finish(within:)`` counts, in milliseconds of the loop's clock.
    var finishingSince: UInt64 { max(rare?.closingSince ?? 0, lastWriteAt, openedAt) }

    /// The limit has passed without progress.
    func finishingTimedOut() {
        let isOwed = isPeerOwed || driver.hasUnacknowledged
        if isOwed { noteCause(.timedOut(.close)) }
        closeDriver(resetting: isOwed)
    }
}
