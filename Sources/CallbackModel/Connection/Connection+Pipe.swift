// What one connection receives, sent on another.

extension Connection {
    /// Sends on `target` whatever this connection receives from now on, and no faster than `target`'s peer takes
    /// it: at most ``Options/highWaterMark`` and one read are queued. For both directions, pipe both ways.
    ///
    /// Takes the place of `onData`; the other callbacks stay the user's.
    ///
    /// - When this connection's peer has finished, `target` ends (``end()``) and the other direction goes on, as with
    ///   ``Options/allowsHalfOpen``.
    /// - When this connection breaks before that, or this side closes it, `target` is reset, so that its peer cannot
    ///   take a part for the whole.
    /// - When `target` goes first, this connection closes, or is reset if `target` broke.
    /// - A second call moves the pipe to another target.
    /// - A target has one source. Another pipe to it ends the first one, whose source goes on reading and drops what it
    ///   reads, until its `onData` is set.
    ///
    /// All this comes right after `onEnd` and `onClose`, which may still lead the pipe elsewhere. With a connection
    /// that is closed already, this does nothing.
    ///
    /// ``pause()`` and ``resume()`` stay the user's: paused by its user, a source waits for ``resume()``, whatever the
    /// target does, and resumed while the target's queue is full, it waits for that.
    ///
    /// - Precondition: both connections belong to one loop, and they are two.
    public func pipe(to target: Connection) {
        core.assertThread("Connection.pipe")
        require(core === target.core, "pipe(to:): the connections belong to two loops")
        require(self !== target, "pipe(to:): a connection cannot be piped to itself; write in onData")
        guard lifecycle != .closed, target.lifecycle != .closed else { return }
        rare?.pipeTarget?.rare?.pipeSource = nil
        let former = target.rare?.pipeSource
        former?.rare?.pipeTarget = nil
        needRare().pipeTarget = target
        target.needRare().pipeSource = self
        onData = { source, bytes in
            guard let target = source.rare?.pipeTarget, target.write(bytes) == .saturated else { return }
            source.pauseForPipe()
        }
        // The target that they have waited for no longer knows them.
        former?.endPipePause()
        endPipePause()
        if target.watch.contains(.saturated) { pauseForPipe() }
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
        // A target whose peer has finished as well is done.
        target.closeIfEnded()
    }

    /// Why a source does not read.
    enum PipePause {
        /// Not for its pipe; perhaps its user has paused it.
        case none
        /// Its target's queue is full.
        case full
        /// Its target's queue is full, and the user has paused it besides.
        case fullAndByUser
    }

    private func pauseForPipe() {
        guard input.flows || input == .held else { return }
        pause()
        needRare().pipePause = .full
    }

    /// Whether it does not read since the target's queue is full.
    var isPausedByPipe: Bool { rare.map { $0.pipePause != .none } ?? false }

    /// `pause()` by the user, while it does not read.
    func noteUserPause() {
        if isPausedByPipe { rare?.pipePause = .fullAndByUser }
    }

    /// `resume()` by the user, while the target's queue is full.
    func forgetUserPause() {
        rare?.pipePause = .full
    }

    /// There is room again.
    func resumePipeSource() {
        rare?.pipeSource?.endPipePause()
    }

    private func endPipePause() {
        guard let rare, rare.pipePause != .none else { return }
        let isByUser = rare.pipePause == .fullAndByUser
        rare.pipePause = .none
        if !isByUser { resume() }
    }

    /// This connection has closed: what its pipes lead to, and come from, goes the same way.
    func cutPipes(_ reason: CloseReason, isCutSource: Bool) {
        let (target, source) = (rare?.pipeTarget, rare?.pipeSource)
        rare?.pipeTarget = nil
        rare?.pipeSource = nil
        let isBroken = reason != .localClose && reason != .peerClosed
        if let target {
            target.rare?.pipeSource = nil
            if isBroken || isCutSource { target.reset() } else { target.end() }
        }
        if let source {
            source.rare?.pipeTarget = nil
            if isBroken { source.reset() } else { source.close() }
        }
    }
}
