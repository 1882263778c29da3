public import CallbackServer

extension EventLoop {
    /// SIGTERM and Control-C end a server: no new clients; `farewell` tells the old ones, who have `limit` to go.
    ///
    /// A second signal of the same kind ends the program at once, as signals do.
    public func drain(
        _ listener: Listener, within limit: Duration, farewell: @escaping () -> Void = {}
    ) throws(IOError) {
        for signal in [Signal.terminate, .interrupt] {
            let watcher = try onSignal(signal) { watcher in
                watcher.cancel()
                printLine("Draining, with \(listener.connectionCount) connections")
                listener.drain(within: limit) { report in
                    printLine("Drained: \(report.finished) finished, \(report.forced) were cut off")
                }
                farewell()
            }
            // When the last client has gone there is nothing left to run for.
            watcher.unref()
        }
    }
}

extension Connection {
    /// How long a client may take to read the last words.
    private static var longestFarewell: Duration { .seconds(2) }

    /// Ends in a way that the peer can still read what was written last. What it sends is dropped from now on.
    ///
    /// `close()` with bytes unread would make the kernel send a reset, and that can cost the peer the last words
    /// (RFC 9112, section 9.6, has the same advice for HTTP).
    public func hangUp(_ loop: EventLoop) {
        onData = nil
        onDrain = nil
        end()
        resume()
        let deadline = loop.schedule(after: Self.longestFarewell) { [weak self] _ in self?.reset() }
        deadline.unref()
    }
}
