public import CallbackServer

extension EventLoop {
    /// SIGTERM and Control-C end a server: no new clients; `farewell` tells the old ones, who have `limit` to go.
    ///
    /// A second signal of the same kind ends the program at once, as signals do.
    public func drain(
        _ listener: Listener, within limit: Duration, farewell: @escaping () -> Void = {}
    ) throws(IOError) {
        try onEndingSignal {
            printLine("Draining, with \(listener.connectionCount) connections")
            listener.drain(within: limit, tell)
            farewell()
        }
    }

    fileprivate func onEndingSignal(_ body: @escaping () -> Void) throws(IOError) {
        for signal in [Signal.terminate, .interrupt] {
            let watcher = try onSignal(signal) { watcher in
                watcher.cancel()
                body()
            }
            // When the last client has gone there is nothing left to run for.
            watcher.unref()
        }
    }
}

extension EventLoop.Group {
    /// The same for a listener of several loops. `farewell` runs on the first one.
    public func drain(
        _ listener: GroupListener, within limit: Duration, farewell: @escaping () -> Void = {}
    ) throws(IOError) {
        try loop.onEndingSignal {
            printLine("Draining, with \(listener.connectionCount) connections")
            listener.drain(within: limit, tell)
            farewell()
        }
    }
}

private func tell(_ report: DrainReport) {
    printLine("Drained: \(report.finished) finished, \(report.forced) were cut off")
}

extension Duration {
    /// How long a client may take nothing of the last words, and then how long it may not close: enough for one that
    /// reads 20 kB/s with the kernel's usual buffers.
    public static var farewell: Duration { .seconds(10) }
}
