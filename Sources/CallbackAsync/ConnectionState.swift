internal import CallbackModel

/// What the asynchronous calls keep with one connection: the piece that was read and not asked for, and the tasks that
/// wait.
final class ConnectionState: WaitedFor, ConnectionAttachment {
    /// What was read and not asked for yet, or who asks.
    private enum Input {
        /// No bytes are kept, and no task waits for some.
        case idle
        case waiting(Waiter<[UInt8]?>)
        /// The connection is paused.
        case kept([UInt8])
    }

    /// What a waiter that is not for bytes waits for.
    enum Event {
        case opening
        case draining
        case closing
    }

    /// `nil` once it has closed. Until then each holds the other, and the loop holds both.
    private var connection: Connection?
    private var input = Input.idle
    /// Whether the peer's FIN has come.
    private var hasInputEnded = false
    /// Why the connection has closed.
    private(set) var reason: CloseReason?
    private var others: [(event: Event, waiter: Waiter<Void>)] = []
    /// Whether the connection's bytes come here.
    private(set) var holdsEnd = false

    /// The state of a connection, made at its first use. That of a closed one only knows why it has closed.
    static func of(_ connection: Connection) -> ConnectionState {
        if let state = connection.attachment as? ConnectionState { return state }
        return ConnectionState(connection)
    }

    private init(_ connection: Connection) {
        super.init(connection.waker)
        reason = connection.reasonOfClosing
        hasInputEnded = reason == .peerClosed
        guard reason == nil else { return }
        self.connection = connection
        connection.attachment = self
    }

    // MARK: Bytes

    /// From now on the connection's bytes and its end come here, and this side ends when it is asked for more than
    /// there is. Those who use callbacks alone never come here.
    func takeInput() {
        guard let connection, !holdsEnd else { return }
        holdsEnd = true
        connection.onData = { [self] connection, bytes in received(connection, bytes) }
        connection.onEnd = { [self] _ in inputEnded() }
    }

    /// The next bytes; `nil` at the peer's end.
    nonisolated(nonsending) func next() async throws -> [UInt8]? {
        if case .waiting = input { trap("Connection.bytes: two tasks call next() at once; one has to wait") }
        guard let connection else { return try takeLast() }
        if Task.isCancelled {
            connection.reset()
            throw CancellationError()
        }
        if case .kept(let bytes) = input {
            input = .idle
            return bytes
        }
        if hasInputEnded { return endBehindPeer(connection) }
        guard let bytes = try await waitForBytes(connection) else { return endBehindPeer(connection) }
        return bytes
    }

    nonisolated(nonsending) private func waitForBytes(_ connection: Connection) async throws -> [UInt8]? {
        // No callback runs inside this call, so the waiter is there before the bytes.
        connection.resume()
        return try await wait { input = .waiting($0) }
    }

    /// What is left of a closed connection.
    private func takeLast() throws -> [UInt8]? {
        if case .kept(let bytes) = input {
            input = .idle
            return bytes
        }
        if let reason, !hasInputEnded { throw IOError(reason, of: "recv") }
        return nil
    }

    /// The task has seen the peer's end, and answered what came before it.
    private func endBehindPeer(_ connection: Connection) -> [UInt8]? {
        if !connection.options.allowsHalfOpen { connection.end() }
        return nil
    }

    private func received(_ connection: Connection, _ bytes: Span<UInt8>) {
        switch input {
        case .waiting(let waiter):
            input = .idle
            waiter.resume(returning: Array(copying: bytes))
        case .idle:
            input = .kept(Array(copying: bytes))
            connection.pause()
        case .kept(var all):
            // Somebody else has resumed it.
            all.append(copying: bytes)
            input = .kept(all)
            connection.pause()
        }
    }

    private func inputEnded() {
        hasInputEnded = true
        guard case .waiting(let waiter) = input else { return }
        input = .idle
        waiter.resume(returning: nil)
    }

    // MARK: Other events

    /// Waits for `event`, or throws why the connection has closed before.
    nonisolated(nonsending) func wait(for event: Event) async throws {
        try await wait { others.append((event, $0)) }
    }

    /// Resumes those who wait for `event`.
    func came(_ event: Event) {
        // No task adds a waiter meanwhile: a continuation is a job, and runs later.
        let resumed = others.filter { $0.event == event }
        others.removeAll { $0.event == event }
        for other in resumed { other.waiter.resume(returning: ()) }
    }

    func connectionClosed(_ reason: CloseReason) {
        connection = nil
        self.reason = reason
        came(.closing)
        for other in others { other.waiter.resume(throwing: IOError(reason, of: other.event.call)) }
        others = []
        guard case .waiting(let waiter) = input else { return }
        input = .idle
        waiter.resume(throwing: IOError(reason, of: "recv"))
    }

    // MARK: Cancelling

    override func cancel(_ number: UInt64) {
        if case .waiting(let waiter) = input, waiter.number == number {
            input = .idle
            connection?.reset()
            return waiter.resume(throwing: CancellationError())
        }
        guard let index = others.firstIndex(where: { $0.waiter.number == number }) else { return }
        let (event, waiter) = others.remove(at: index)
        // Whoever only looks on at the end does not bring it about.
        if event != .closing { connection?.reset() }
        waiter.resume(throwing: CancellationError())
    }
}

extension ConnectionState.Event {
    /// What fails when the connection closes.
    fileprivate var call: String { self == .opening ? "connect" : "send" }
}
