// What the loop watches over all its connections.

extension LoopCore {
    /// The queue of a connection has changed by so many bytes.
    func queuesChanged(by change: Int) {
        queuedByteCount += change
        if change > 0 {
            if queuedByteCount > maxQueuedBytes / 4 * 3, !isOverloaded { stopReadingAll() }
            if queuedByteCount > maxQueuedBytes { shed() }
        } else if isOverloaded, queuedByteCount <= maxQueuedBytes / 2 {
            isOverloaded = false
            connections.forEach { $0.overloadEnded() }
        }
    }

    private func stopReadingAll() {
        isOverloaded = true
        connections.forEach { $0.overloadBegan() }
        watchPaused()
    }

    private func shed() {
        noteProgress()
        while queuedByteCount > maxQueuedBytes, shedLargestQueue() {}
    }

    /// Of long writes that an engine tells of only when they are done.
    private func noteProgress() {
        connections.forEach { $0.noteProgress() }
    }

    private func shedLargestQueue() -> Bool {
        var largest: Connection?
        connections.forEach { if $0.queuedByteCount > largest?.queuedByteCount ?? 0 { largest = $0 } }
        guard let largest else { return false }
        largest.shed()
        return true
    }

    /// Looks once a second at the connections that do not read, as long as there are any: the kernel tells nobody
    /// else that their peer has reset them (contract clause 11: noticed within 2 seconds).
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
        if isOverloaded { noteProgress() }
        var isAnyPaused = isOverloaded
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
    /// Whether bytes are wanted, could come, and are read.
    private var reads: Bool { input == .flowing && isReadable }

    func overloadBegan() {
        if reads { driver.stopReading() }
    }

    func overloadEnded() {
        guard reads else { return }
        readTimeoutBegins()
        beginReading()
        timeoutsChanged()
    }

    /// Its queue was the largest when all together were too much.
    func shed() {
        interrupted(by: .shed)
        closeDriver(resetting: true)
    }

    /// Whether a reset would go unnoticed: it is open, and nothing is read from it.
    var isWatchedForReset: Bool {
        lifecycle == .open && (input == .paused || input == .ended || core.isOverloaded)
    }

    func lookForReset() {
        guard let loss = driver.loss else { return }
        fail(IOError(call: "recv", errno: loss))
        closeDriver()
    }
}
