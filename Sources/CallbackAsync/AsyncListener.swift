public import CallbackModel

extension EventLoop {
    /// Binds `address` and listens; ``AsyncListener/connections`` gives the clients, one at a time.
    ///
    /// Throws what `listen(on:options:onConnection:)` throws.
    public func listen(
        on address: SocketAddress, options: Listener.Options = .init()
    ) throws(IOError) -> AsyncListener {
        let state = ListenerState(waker)
        let listener = try listen(on: address, options: options, onConnection: state.onConnection)
        state.begin(listener)
        return AsyncListener(listener: listener, state: state)
    }
}

/// A listening socket whose clients are asked for; made by `EventLoop.listen(on:options:)` without a callback.
///
/// A client that no task asks for is accepted once and kept. The others wait in the kernel's backlog
/// (`Listener.Options.backlog`). The loop owns the socket while it is open.
public final class AsyncListener {
    /// The listener underneath: for its limits, `Listener.onShed`, `Listener.onError` and `Listener.onClose`, for
    /// drains and for its open connections. `pause` and `resume` belong to `connections`.
    public let listener: Listener
    private let state: ListenerState

    fileprivate init(listener: Listener, state: ListenerState) {
        self.listener = listener
        self.state = state
    }

    /// The address the kernel bound; a port of 0 has become the port it chose.
    public var localAddress: SocketAddress { listener.localAddress }

    /// The clients, in the order in which they were accepted, until the listener has closed.
    ///
    /// Each connection is paused: it is read from once a task waits for its `Connection.bytes`, or,
    /// with callbacks, after `Connection.resume()`. To serve several at once, begin a task for each
    /// (`Connection.task(isolation:_:)`).
    ///
    /// A task that is cancelled while it waits, or that asks when it is cancelled already, gets a `CancellationError`,
    /// and the listener closes; a client that was accepted and not asked for is reset. To stop asking without that is
    /// no end: the listener stays open.
    ///
    /// For the loop's thread.
    ///
    /// - Precondition: no two tasks wait for a client at once.
    public var connections: Connections { Connections(state: state) }

    /// Stops listening, and ends `connections`. A client that was accepted and not asked for is reset, as are those
    /// in the backlog. Open connections stay open.
    public func close() { state.close() }

    /// The clients of one listener; ``AsyncListener/connections``.
    public struct Connections: AsyncSequence {
        fileprivate let state: ListenerState

        /// The place where the loop over the clients is.
        public struct AsyncIterator: AsyncIteratorProtocol {
            fileprivate let state: ListenerState

            /// The next client; `nil` when the listener has closed.
            nonisolated(nonsending) public mutating func next() async throws -> Connection? {
                try await state.next()
            }

            /// The same, for code that is isolated to `actor`.
            public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Connection? {
                try await state.next()
            }
        }

        /// Goes on where others have stopped.
        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(state: state) }
    }
}

/// Who waits for a client of one listener, and who has not been asked for.
private final class ListenerState: WaitedFor {
    private enum Clients {
        /// No client is promised, and no task waits.
        case none
        case waiting(Waiter<Void>)
        /// For the task that has waited and has not run yet.
        case promised(Connection)
    }

    /// `nil` once it has closed.
    private var listener: Listener?
    private var clients = Clients.none
    /// One at most, and the listener is paused; or all that wait in the backlog when the listener drains.
    private var kept: [Connection] = []

    /// For the listener, which lets go of it when it has closed, or when its loop is let go.
    var onConnection: (Connection) -> Void {
        let end = LettingGo { [self] in ended() }
        return { [self] connection in
            withExtendedLifetime(end) { accepted(connection) }
        }
    }

    func begin(_ listener: Listener) { self.listener = listener }

    private func accepted(_ connection: Connection) {
        // What it sends before a task waits for it stays in the kernel.
        connection.pause()
        guard case .waiting(let waiter) = clients else {
            kept.append(connection)
            listener?.pause()
            return
        }
        clients = .promised(connection)
        waiter.resume(returning: ())
    }

    /// The listener has closed, or its loop is let go.
    private func ended() {
        listener = nil
        guard case .waiting(let waiter) = clients else { return }
        clients = .none
        waiter.resume(returning: ())
    }

    func close() {
        listener?.close()
        for connection in kept { connection.reset() }
        kept = []
    }

    nonisolated(nonsending) func next() async throws -> Connection? {
        guard case .none = clients else {
            trap("AsyncListener.connections: two tasks call next() at once; one has to wait")
        }
        if Task.isCancelled, listener != nil {
            close()
            throw CancellationError()
        }
        if !kept.isEmpty { return kept.removeFirst() }
        guard let listener else { return nil }
        listener.resume()
        try await wait { clients = .waiting($0) }
        // Without one the listener has closed.
        guard case .promised(let connection) = clients else { return nil }
        clients = .none
        return connection
    }

    override func cancel(_ number: UInt64) {
        guard case .waiting(let waiter) = clients, waiter.number == number else { return }
        clients = .none
        close()
        waiter.resume(throwing: CancellationError())
    }
}
