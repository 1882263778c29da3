extension Connection {
    /// Delivers no data until ``resume()``, from the moment this returns. The peer's FIN is not seen meanwhile.
    public func pause() {
        core.assertThread("Connection.pause")
        switch input {
        case .flowing, .layered:
            move(input: .paused)
            pauseRateWindow()
            stopReading()
            core.watchPaused()
        case .held:
            move(input: .paused)
            silenceBegins()
            timeoutsChanged()
        case .paused, .ended, .closed: noteUserPause()
        }
    }

    /// Delivers data again after ``pause()``.
    public func resume() {
        core.assertThread("Connection.resume")
        guard input == .paused else { return }
        if isPausedByPipe { return forgetUserPause() }
        move(input: core.isAboveShare(self) ? .held : flowingInput)
        readTimeoutBegins()
        if isReadable, input.flows { beginReading() }
        timeoutsChanged()
    }
}
