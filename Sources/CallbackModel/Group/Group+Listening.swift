extension EventLoop.Group {
    /// Which loop of a group gets a client.
    public enum Distribution: String, Hashable, Sendable, CaseIterable {
        /// The loop that has the fewest connections. The first loop accepts and hands over, so a client costs a wake-up
        /// of the loop that serves it. For connections that last.
        case evenly
        /// The one that accepts first. Each loop waits for the same listening socket, so that load goes where there is
        /// time for it. A burst may go to few loops.
        case shared
        /// The one that the kernel's hash of the addresses gives (SO_REUSEPORT, socket(7)). Each loop has a listening
        /// socket of its own, with a backlog of its own. The hash knows nothing of load: a loop that hangs or is full
        /// gets its share too. TCP only. Other processes of the same user can listen on the port as well.
        case byKernel
    }

    /// Binds `address` and listens on every loop of the group.
    ///
    /// `onLoop` runs once on each loop. It makes what the connections of that loop share, and returns what is called
    /// for each client there, as the last argument of ``EventLoop/listen(on:options:onConnection:)`` is. What it makes
    /// never leaves its loop and needs no lock.
    ///
    /// Returns when all loops listen: it waits for the callback that each loop is in. Throws what `listen` on one loop
    /// throws, EINVAL for ``Distribution/byKernel`` with a Unix socket, ETIMEDOUT when a loop has not answered for five
    /// seconds, and ECANCELED when no loop is left. Then no loop listens.
    ///
    /// ``Listener/Options/maxConnections`` is for all loops together.
    public func listen(
        on address: SocketAddress, options: Listener.Options = .init(), distribution: Distribution = .evenly,
        _ onLoop: @escaping @Sendable (EventLoop) -> (Connection) -> Void
    ) throws(IOError) -> GroupListener {
        loop.core.assertThread("EventLoop.Group.listen")
        try address.requireName(for: "bind")
        listenerCount += 1
        let listener = try GroupListener(self, number: listenerCount, on: address, options: options, distribution)
        listeners[listener.number] = listener
        do throws(IOError) {
            try listener.begin(options, onLoop)
        } catch {
            listener.close()
            throw error
        }
        return listener
    }
}
