// What an overload of the loop (`LoopCore+Limits`) means to one connection.

extension Connection {
    /// What was found at the last look at its queue while the loop was overloaded.
    struct QueueLook {
        let written: UInt64
        let progress: SendProgress?
        /// How many looks in a row have found that nothing moved.
        var unmoved = 0
    }

    /// Stops reading, or reads again, by what is queued now. Runs no callback.
    func updateHold() {
        switch input {
        case .flowing where core.isAboveShare(self), .layered where core.isAboveShare(self):
            move(input: .held)
            pauseRateWindow()
            stopReading()
        case .held where !core.isAboveShare(self): readAgain()
        case .flowing, .layered, .held, .paused, .ended, .closed: break
        }
    }

    func overloadEnded() {
        if let rare { rare.queueLook = nil }
        updateHold()
    }

    private func readAgain() {
        move(input: flowingInput)
        silenceBegins()
        guard isReadable else { return }
        beginReading()
        timeoutsChanged()
    }

    /// Resets it, so that the loop stays within its limits.
    package func shed() {
        noteCause(.shed)
        closeDriver(resetting: true)
    }

    /// Whether its queue has not moved for ``Overload/mostLooks`` looks in a row. A look: once a second while the loop
    /// is overloaded.
    func isStuck() -> Bool {
        guard queuedByteCount > 0 else {
            if let rare { rare.queueLook = nil }
            return false
        }
        let last = rare?.queueLook
        let written = bytesWritten
        var look = QueueLook(written: written, progress: driver.sendProgress)
        if let last, last.written == written, !look.hasProgressed(since: last) { look.unmoved = last.unmoved + 1 }
        needRare().queueLook = look
        return look.unmoved >= Overload.mostLooks
    }
}

extension Connection.QueueLook {
    /// Whether the peer has taken bytes that are in the kernel, which the queue does not show.
    func hasProgressed(since last: Connection.QueueLook) -> Bool {
        switch (progress, last.progress) {
        case (.acknowledged(let new, _), .acknowledged(let old, _)): new > old
        case (.untaken(let new, _), .untaken(let old, _)): new < old
        default: false
        }
    }
}
