public import CallbackModel
internal import Glibc

extension EventLoop {
    /// Connects to `address`, and returns when the connection is open. It is paused until a task waits for its
    /// `Connection.bytes`, or, with callbacks, until `Connection.resume()`.
    ///
    /// Throws an `IOError`: what `connect` without `await` throws, and why the connection did not open, such as
    /// ECONNREFUSED with the address, or ETIMEDOUT after `Connection.Timeouts.connect`. A cancelled
    /// task gets a `CancellationError`, and the attempt ends. The loop is not let go while a task waits here.
    ///
    /// For the loop's thread.
    nonisolated(nonsending) public func connect(
        to address: SocketAddress, options: ConnectOptions = .init()
    ) async throws -> Connection {
        try Task.checkCancellation()
        return try await opened(begin(to: address, options: options))
    }

    /// Connects to a host by its name or numeric address, whose addresses are tried in turn, as `connect` without
    /// `await` does. Everything else is as with `connect(to:options:)`; ENOENT if the name does not exist.
    nonisolated(nonsending) public func connect(
        host: String, port: Int, options: ConnectOptions = .init()
    ) async throws -> Connection {
        try Task.checkCancellation()
        return try await opened(begin(host: host, port: port, options: options))
    }

    /// Finds the addresses of `host`, at least one, in the order to try them.
    ///
    /// Throws the `IOError` that `resolve(host:port:_:)` throws or tells: ENOENT for a name that does not exist. A
    /// cancelled task gets a `CancellationError`, and the question is withdrawn. The loop is not let go while a task
    /// waits here.
    ///
    /// For the loop's thread.
    nonisolated(nonsending) public func resolve(host: String, port: Int) async throws -> [SocketAddress] {
        try Task.checkCancellation()
        let question = Question(waker)
        let lookUp = try resolve(host: host, port: port) { question.answer($0) }
        return try await question.wait(for: lookUp)
    }

    // Outside of `async` functions, where these names mean the calls of the model.

    private func begin(to address: SocketAddress, options: ConnectOptions) throws(IOError) -> Connection {
        try connect(to: address, options: options)
    }

    private func begin(host: String, port: Int, options: ConnectOptions) throws(IOError) -> Connection {
        try connect(host: host, port: port, options: options)
    }

    nonisolated(nonsending) private func opened(_ connection: Connection) async throws -> Connection {
        let state = ConnectionState.of(connection)
        connection.onOpen = { connection in
            // What comes before the task runs stays in the kernel.
            connection.pause()
            state.came(.opening)
        }
        try await state.wait(for: .opening)
        return connection
    }
}

/// A question to the resolver that a task waits for.
private final class Question: WaitedFor {
    private var waiter: Waiter<[SocketAddress]>?
    private var lookUp: EventLoop.LookUp?

    nonisolated(nonsending) func wait(for lookUp: EventLoop.LookUp) async throws -> [SocketAddress] {
        self.lookUp = lookUp
        return try await wait { waiter = $0 }
    }

    func answer(_ result: Result<[SocketAddress], IOError>) {
        guard let waiter else { return }
        self.waiter = nil
        switch result {
        case .success(let addresses): waiter.resume(returning: addresses)
        case .failure(let error): waiter.resume(throwing: error)
        }
    }

    override func cancel(_ number: UInt64) {
        guard let waiter else { return }
        self.waiter = nil
        lookUp?.cancel()
        waiter.resume(throwing: CancellationError())
    }
}
