// What the loop watches over all its connections.

extension LoopCore {
    /// The queue of `connection` has changed; it held `old` bytes before.
    func queueChanged(of connection: Connection, from old: Int) {
        let new = connection.queuedByteCount
        queuedByteCount += new - old
        if old == 0 { overload.queueingCount += 1 } else if new == 0 { overload.queueingCount -= 1 }
        if overload.isOn { connection.updateHold() }
        if new > old {
            if let most = connection.sharedOptions.value.maxQueuedBytes, new > most { return connection.shed() }
            if queuedByteCount > maxQueuedBytes / 4 * 3, !overload.isOn { overloadBegins() }
            if queuedByteCount > maxQueuedBytes { shedLargest() }
        } else if overload.isOn, queuedByteCount <= maxQueuedBytes / 2 {
            overloadEnds()
        }
    }

    /// Whether `connection` has more queued than its share of what an overloaded loop may hold.
    func isAboveShare(_ connection: Connection) -> Bool {
        overload.isOn && connection.queuedByteCount > maxQueuedBytes / max(1, overload.queueingCount)
    }

    private func overloadBegins() {
        overload.isOn = true
        connections.forEach { $0.updateHold() }
        watchPaused()
        overloadChanged()
    }

    private func overloadEnds() {
        overload.isOn = false
        // A loop that is let go reads no connection any more.
        guard !isShutDown else { return }
        connections.forEach { $0.overloadEnded() }
        overloadChanged()
    }

    /// Too much is queued: the connections with the longest queues are reset.
    private func shedLargest() {
        noteProgress()
        while queuedByteCount > maxQueuedBytes {
            var largest: Connection?
            connections.forEach { if $0.queuedByteCount > largest?.queuedByteCount ?? 0 { largest = $0 } }
            guard let largest else { return }
            shed(largest)
        }
    }

    private func shed(_ connection: Connection) {
        overload.noteShed()
        connection.shed()
        overloadChanged()
    }

    /// An engine tells of a long write only when it is done.
    private func noteProgress() {
        connections.forEach { $0.noteProgress() }
    }

    /// Called once a second of an overload. Shares have changed, so other connections stop reading. Connections whose
    /// queue has not moved for too long are reset, the longest queue first, until the overload is over.
    private func lookAtQueues() {
        noteProgress()
        guard overload.isOn else { return }
        var stuck: [Connection] = []
        connections.forEach { connection in
            connection.updateHold()
            if connection.isStuck() { stuck.append(connection) }
        }
        stuck.sort { $0.queuedByteCount > $1.queuedByteCount }
        for connection in stuck where overload.isOn { shed(connection) }
    }

    /// Puts off what there is to tell: no callback runs inside the call that caused it.
    func overloadChanged() {
        if !isShutDown, overload.mustPutOff() { putOff(.overload) }
    }

    func tellOverload() {
        for event in overload.removeEvents() {
            // Each event's callback may set another one, or `nil`.
            guard let callback = overload.callback else { return }
            perform(.overload) { callback(event) }
        }
    }

    /// Looks once a second at the connections that do not read, and at an overload, as long as there are any. Without
    /// it a reset of a connection that does not read goes unnoticed (contract clause 11: 2 seconds).
    func watchPaused() {
        guard pauseWatch == nil, !isShutDown else { return }
        let watch = EventLoop.Timer(core: self, interval: .seconds(1), isInternal: true) { [unowned self] _ in
            lookAtPaused()
        }
        watch.unref()
        watch.reschedule(after: .seconds(1))
        pauseWatch = watch
    }

    private func lookAtPaused() {
        if overload.isOn { lookAtQueues() }
        var isAnyPaused = overload.isOn
        connections.forEach { connection in
            guard connection.isWatchedForReset else { return }
            isAnyPaused = true
            connection.lookForReset()
        }
        guard !isAnyPaused else { return }
        pauseWatch?.cancel()
        pauseWatch = nil
    }
}

extension Connection {
    /// Whether a reset would go unnoticed: it is open, and nothing is read from it.
    var isWatchedForReset: Bool {
        lifecycle == .open && (input == .paused || input == .ended || input == .held)
    }

    func lookForReset() {
        guard let loss = driver.loss else { return }
        noteFailure(IOError(call: "recv", errno: loss))
        closeDriver()
    }
}
