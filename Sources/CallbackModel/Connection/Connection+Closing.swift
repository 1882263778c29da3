extension Connection {
    /// Sends what is queued, then FIN: this side has finished. Data from the peer still arrives; when its FIN
    /// has come too, the connection closes.
    ///
    /// A peer that never finishes keeps the connection; an idle time-out ends that.
    public func end() {
        core.assertThread("Connection.end")
        guard output.isOpen else { return }
        cause = cause ?? .localClose
        core.flushBatch(of: self)
        guard output.isOpen else { return }
        move(output: .ending)
        finishOutput()
    }

    /// Sends what is queued, then closes, whatever the peer does; no more data is delivered.
    ///
    /// Flushing is bounded by ``Timeouts/close``; then the rest is dropped and the peer reset. If the peer has
    /// sent data that was never read, the kernel sends RST at the close (RFC 2525, 2.17), which may cost the
    /// peer the last bytes: ``end()`` and reading to the end is the safe way to finish.
    public func close() {
        core.assertThread("Connection.close")
        guard isUsable else { return }
        cause = cause ?? .localClose
        core.flushBatch(of: self)
        finishLayer()
        // One of them may have failed and closed.
        guard isUsable else { return }
        if queuedByteCount == 0, !isAwaitingInput { return closeDriver() }
        move(to: .flushing, output: .closed, input: .closed)
        closeInput()
        boundClosing()
        endTimers()
    }

    /// From now on the connection has ``Timeouts/close`` to come to its end.
    private func boundClosing() {
        needRare().closingSince = core.milliseconds
        timeoutsChanged()
    }

    /// Drops everything that is queued and closes with RST, so that the peer cannot take it for a proper end.
    ///
    /// A Unix socket has no RST: its peer sees an end like any other, unless it had sent what was never read.
    public func reset() {
        core.assertThread("Connection.reset")
        guard lifecycle != .closing, lifecycle != .closed else { return }
        cause = cause ?? .localReset
        closeDriver(resetting: true)
    }

    /// Whether callbacks other than `onClose` may still come.
    var isUsable: Bool {
        switch lifecycle {
        case .connecting, .starting, .open, .readingOut: true
        case .flushing, .closing, .closed: false
        }
    }

    // MARK: Causes

    /// A write failed: nothing more goes out. What a peer had sent before its reset is still delivered, as long as the
    /// connection reads (contract clause 11). The time is bounded: a peer on a Unix socket can refuse to read without
    /// ever closing (shutdown(2), SHUT_RD).
    func writeFailed(_ error: IOError) {
        if watch.contains(.layered), isOnlyLayerEndLost { return closeDriver() }
        noteFailure(error)
        // Known already, by a write in `onOpen`.
        if lifecycle == .readingOut { return }
        guard error.isPeerReset, input.flows, lifecycle == .open || lifecycle == .starting || isInHandshake else {
            return closeDriver()
        }
        move(to: .readingOut, output: .closed)
        boundClosing()
    }

    /// Records that a system call has failed, as `noteCause` does.
    func noteFailure(_ error: IOError) {
        noteCause(error.isPeerReset ? .peerReset : .failed(error.about(remoteAddress)))
    }

    /// Records why the connection closes. The first cause stays, unless it is a proper end, by either side's FIN, that
    /// was still under way.
    func noteCause(_ reason: CloseReason) {
        if cause == nil || cause == .peerClosed || cause == .localClose { cause = reason }
    }

    /// What `StreamDriver.outputEnded` does.
    func outputEnded(_ error: IOError?) {
        guard output == .ending else { return }
        if let error { return writeFailed(error) }
        move(output: .ended)
        closeIfEnded()
    }

    /// Closes when both sides have finished, after what a flush owed is delivered.
    func closeIfEnded() {
        guard input == .ended, output == .ended, lifecycle == .open, !watch.contains(.putOff) else { return }
        closeDriver()
    }

    /// Closes the descriptor if `close()` has waited for the queue and it is empty.
    func closeIfFlushed() {
        if lifecycle == .flushing, bufferedByteCount == 0, queuedByteCount == 0, !isAwaitingInput { closeDriver() }
    }

    // MARK: The end

    /// Closes the descriptor now; `driverClosed` follows.
    func closeDriver(resetting: Bool = false) {
        guard lifecycle != .closing, lifecycle != .closed else { return }
        // Before the queue changes: a held connection would then read again.
        move(to: .closing, output: .closed, input: .closed)
        unsentByteCount += UInt64(bufferedByteCount)
        if watch.contains(.layered) { layer?.phase = .muted }
        setQueuedByteCount(0)
        core.dropBatch(of: self)
        if resetting { needRare().wasReset = true }
        lastReadAt = core.milliseconds
        core.timeouts.remove(self)
        driver.close(resetting: resetting)
        // Last: what their bodies captured may be the loop's last owner.
        endTimers()
    }

    /// What `StreamDriver.closed` does.
    func driverClosed() {
        let reason = cause ?? .localClose
        rare?.boundFile?.remove()
        deliverCompletions(upTo: bytesWritten, .sent)
        deliverCompletions(upTo: .max, .failed(reason))
        if let race = rare?.race { race.lost(self, reason) }
        listener?.countClose(reason, wasReset: rare?.wasReset ?? false)
        core.noteEvent()
        // One that had ended has no target any more, unless `onClose` makes it a source.
        let isCutSource = rare?.pipeTarget != nil
        if watch.contains(.layered) { layer?.connectionClosed(reason) }
        if let closeCallback { core.perform(.close) { closeCallback(self, reason) } }
        tellAttachment(reason)
        cancelTasks()
        // Not before: until here the user may lay a pipe.
        cutPipes(reason, isCutSource: isCutSource)
        let listener = self.listener
        release()
        listener?.connectionLeft()
        listener?.drainedIfDone()
    }

    func closeAtDrainDeadline(_ forcing: Listener.Forcing) {
        guard lifecycle != .closing, lifecycle != .closed else { return }
        noteCause(.drainDeadline)
        closeDriverInOrder(resetting: forcing == .reset || isPeerOwed)
    }

    /// Whether this side has more to send: queued bytes, or what a pipe's source may still bring. With FIN the peer
    /// would then take a part for the whole.
    var isPeerOwed: Bool {
        bufferedByteCount > 0 || output.isOpen && isPipeTarget
    }

    /// Closes without calling anyone: the loop is being let go.
    func abandon() {
        rare?.boundFile?.remove()
        // Before the callbacks are let go, and with them what is known of pipes.
        let isPeerOwed = self.isPeerOwed
        if !isPeerOwed { finishLayer() }
        let attachment = rare?.attachment
        let layer = self.layer
        releaseCallbacks()
        cause = cause ?? .localClose
        closeDriver(resetting: isPeerOwed)
        layer?.connectionAbandoned()
        attachment?.connectionClosed(cause ?? .localClose)
    }

    func release() {
        // An attempt that has given up its driver was not closing before.
        move(to: .closed, output: .closed, input: .closed)
        releaseCallbacks()
        listener = nil
        // Last: the loop's reference may be the only one.
        core.remove(self)
    }

    private func releaseCallbacks() {
        setDataCallback(nil)
        letGo(of: (closeCallback, drainCallback, rare)) {
            let unsent = bytesUnsent
            closeCallback = nil
            drainCallback = nil
            rare = nil
            unsentByteCount = unsent
        }
    }
}
