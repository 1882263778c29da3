public import CallbackModel

extension Connection {
    /// The bytes that the peer sends, for `for try await`: one array for each read.
    ///
    /// The connection is read from only while a task waits. What a read brings while none waits is kept, once, and the
    /// connection is paused: a task that stops asking keeps at most one read buffer
    /// (`EventLoop.Options.readBufferSize`), and the peer has to wait.
    ///
    /// The sequence ends when the peer has ended, and only then: this side ends behind it, unless
    /// `Options.allowsHalfOpen` is set. What was sent before the task asks for more than there is still goes out
    /// before that. If the connection closes otherwise, `next` throws an `IOError`: the error that
    /// `CloseReason.failed(_:)` carries, ECONNRESET for a peer's reset, ETIMEDOUT for a time-out and for a drain's
    /// deadline, ENOBUFS if it was shed, ECANCELED if this side has closed or reset it. What was read before is
    /// returned first.
    ///
    /// A task that is cancelled while it waits, or that asks when it is cancelled already, gets a `CancellationError`,
    /// and the connection is reset: the peer must not take a part for the whole.
    ///
    /// From the first use on, `onData` and `onEnd` belong to the sequence; do not set them. Use it inside
    /// `onConnection`, or pause the connection there: what comes earlier is dropped, as without `onData`. Connections
    /// of ``AsyncListener`` and of an awaited `connect` are paused until then. All sequences of one connection share
    /// its bytes: one loop goes on where another has stopped.
    ///
    /// For the loop's thread.
    ///
    /// - Precondition: no two tasks wait for bytes of one connection at once.
    public var bytes: AsyncBytes {
        let state = ConnectionState.of(self)
        state.takeInput()
        return AsyncBytes(state: state)
    }

    /// Sends `bytes` after all that was written before, and returns when less than
    /// `Options.highWaterMark` is queued, or once the queue has fallen to `Options.lowWaterMark`.
    ///
    /// To have returned says that there is room for more, not that the peer has got anything. Several tasks may wait;
    /// bytes leave in the order of the calls. Throws an `IOError` when the connection is closed, ends or closes, as
    /// `bytes` does; on one that this side has ended, ECANCELED or EPIPE.
    ///
    /// A task that is cancelled while it waits, or that calls this when it is cancelled already, gets a
    /// `CancellationError`, and the connection is reset. To say a last word, `write(_:)` and
    /// `finish(within:)` still work then.
    ///
    /// From the first wait on, `onDrain` belongs to this call; do not set it. For the loop's thread.
    nonisolated(nonsending) public func send(_ bytes: [UInt8]) async throws {
        try refuseIfCancelled()
        let status = write(bytes)
        if status != .flowing { try await waitForRoom(status) }
    }

    /// The same for the UTF-8 bytes of a string.
    nonisolated(nonsending) public func send(_ text: String) async throws {
        try refuseIfCancelled()
        let status = write(text)
        if status != .flowing { try await waitForRoom(status) }
    }

    /// Waits until the connection has closed, and returns why. The tasks and callbacks of others do the closing: this
    /// neither reads nor ends anything.
    ///
    /// A cancelled task gets a `CancellationError`; the connection stays as it is. For the loop's thread.
    nonisolated(nonsending) public func closed() async throws -> CloseReason {
        let state = ConnectionState.of(self)
        if state.reason == nil { try await state.wait(for: .closing) }
        return state.reason ?? .localClose
    }

    private func refuseIfCancelled() throws {
        guard Task.isCancelled, reasonOfEnding == nil else { return }
        reset()
        throw CancellationError()
    }

    nonisolated(nonsending) private func waitForRoom(_ status: WriteStatus) async throws {
        if let reason = reasonOfEnding { throw IOError(reason, of: "send") }
        let state = ConnectionState.of(self)
        onDrain = { [state] _ in state.came(.draining) }
        try await state.wait(for: .draining)
    }
}

/// The bytes of one connection; `Connection.bytes`.
public struct AsyncBytes: AsyncSequence {
    let state: ConnectionState

    /// The place where the loop over the bytes is.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let state: ConnectionState

        /// The next bytes, at least one; `nil` when the peer has ended.
        nonisolated(nonsending) public mutating func next() async throws -> [UInt8]? {
            try await state.next()
        }

        /// The same, for code that is isolated to `actor`.
        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> [UInt8]? {
            try await state.next()
        }
    }

    /// Goes on where others have stopped.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(state: state) }
}
