// What one connection receives, sent on another.

extension Connection {
    /// Sends on `target` whatever this connection receives from now on, and no faster than `target`'s peer takes
    /// it: at most ``Options/highWaterMark`` and one read are queued. For both directions, pipe both ways.
    ///
    /// Takes the place of `onData`; the other callbacks stay the user's. When this connection's peer has finished,
    /// `target` ends (``end()``) and the other direction goes on, as with ``Options/allowsHalfOpen``. When this
    /// connection breaks before that, `target` is reset, so that its peer cannot take a part for the whole; closed by
    /// this side, `target` ends. When `target` goes first, this connection closes the same way. A second call moves
    /// the pipe to another target. A closed connection is no source and no target: then nothing happens.
    ///
    /// - Precondition: both connections belong to one loop, and they are two.
    public func pipe(to target: Connection) {
        core.assertThread("Connection.pipe")
        precondition(core === target.core, "pipe(to:): the connections belong to two loops")
        precondition(self !== target, "pipe(to:): a connection cannot be piped to itself; write in onData")
        guard output != .closed || lifecycle == .readingOut, lifecycle != .closed, target.lifecycle != .closed else {
            return
        }
        rare?.pipeTarget?.rare?.pipeSource = nil
        target.rare?.pipeSource?.rare?.pipeTarget = nil
        needRare().pipeTarget = target
        target.needRare().pipeSource = self
        onData = { source, bytes in
            guard let target = source.rare?.pipeTarget, target.write(bytes) == .saturated else { return }
            source.rare?.isPausedByPipe = true
            source.pause()
        }
        // It was finished, or its own target is gone, before it became a source.
        if input == .ended { endPipe() }
    }

    /// Whether another connection's pipe writes here: then it alone says when the writing ends.
    var isPipeTarget: Bool { rare?.pipeSource != nil }

    /// All has been received: the target finishes too.
    func endPipe() {
        guard let target = rare?.pipeTarget else { return }
        rare?.pipeTarget = nil
        target.rare?.pipeSource = nil
        target.end()
        // With its own writing over, a target whose peer has finished has nothing left to do.
        target.closeIfEnded()
    }

    /// There is room again.
    func resumePipeSource() {
        guard let source = rare?.pipeSource, source.rare?.isPausedByPipe == true else { return }
        source.rare?.isPausedByPipe = false
        source.resume()
    }

    /// This connection has closed: what its pipes lead to, and come from, goes the same way.
    func cutPipes(_ reason: CloseReason) {
        let (target, source) = (rare?.pipeTarget, rare?.pipeSource)
        rare?.pipeTarget = nil
        rare?.pipeSource = nil
        let isBroken = reason != .localClose && reason != .peerClosed
        if let target {
            target.rare?.pipeSource = nil
            if isBroken { target.reset() } else { target.end() }
        }
        if let source {
            source.rare?.pipeTarget = nil
            if isBroken { source.reset() } else { source.close() }
        }
    }

    private func closeIfEnded() {
        if input == .ended, output == .ended, lifecycle == .open { closeDriver() }
    }
}
