import CallbackServer
import TestSupport
import Testing

/// Connections of one loop and their peers, played step by step on the test's own thread: what a proxy sees.
final class StepStage {
    let loop: EventLoop
    let listener: Listener
    private let accepted = Accepted()
    private let reported = Reported()
    /// So that no peer goes away before its test is over.
    private var peers: [PlainClient] = []

    /// What `onConnection` has handed over; apart from the scene, which the listener must not hold.
    private final class Accepted {
        var connections: [Connection] = []
        var prepare: (Connection) -> Void = { _ in }
    }

    private final class Reported {
        var reasons: [ObjectIdentifier: CloseReason] = [:]

        func note(_ connection: Connection) {
            connection.onClose = { [self] connection, reason in reasons[ObjectIdentifier(connection)] = reason }
        }
    }

    init(_ engine: Engine, loop options: EventLoop.Options = .init(), _ listening: Listener.Options = .init()) throws {
        loop = try EventLoop(engine: engine, options: options)
        listener = try loop.listen(options: listening) { [accepted, reported] in
            accepted.connections.append($0)
            // At once: it may close before `connect` has returned.
            reported.note($0)
            accepted.prepare($0)
        }
    }

    /// One more connection; `prepare` runs in `onConnection`.
    func connect(
        receiveBuffer: Int32? = nil, _ prepare: @escaping (Connection) -> Void = { _ in }
    ) throws -> (connection: Connection, peer: PlainClient) {
        let count = accepted.connections.count
        accepted.prepare = prepare
        let peer = try PlainClient(port: listener.port, receiveBuffer: receiveBuffer)
        try loop.run(until: { self.accepted.connections.count > count })
        // What it has captured may hold this object.
        accepted.prepare = { _ in }
        let connection = accepted.connections[count]
        peers.append(peer)
        return (connection, peer)
    }

    /// Writes down why `connection` closes.
    func note(_ connection: Connection) {
        reported.note(connection)
    }

    /// Why it has closed; nothing while it is open.
    func reason(of connection: Connection) -> CloseReason? { reported.reasons[ObjectIdentifier(connection)] }

    func runUntilClosed(_ connections: Connection..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        try loop.run(
            until: { connections.allSatisfy { self.reason(of: $0) != nil } }, sourceLocation: sourceLocation)
    }

    /// A few turns that wait for nothing: whatever could be delivered has been.
    func settle(turns: Int = 30) throws {
        for _ in 0..<turns { try loop.run(.noWait) }
    }

    /// Runs the loop beside a peer's thread until that has finished.
    @discardableResult
    func run<Value: Sendable>(
        timeLimit: Duration = .seconds(10), sourceLocation: SourceLocation = #_sourceLocation,
        _ peer: @escaping @Sendable () throws -> Value
    ) throws -> Value {
        let thread = onThread(peer)
        try loop.run(until: { thread.isFinished }, timeLimit: timeLimit, sourceLocation: sourceLocation)
        return try thread.value(timeLimit: .seconds(1))
    }

    /// The peer sends until neither the kernel nor the loop takes any more.
    func flood(_ peer: PlainClient, most: Int = 64 << 20) throws {
        let piece = [UInt8](repeating: 1, count: 256 << 10)
        var sent = 0
        var refusals = 0
        while refusals < 5, sent < most {
            let count = try peer.sendSome(piece)
            sent += count
            refusals = count == 0 ? refusals + 1 : 0
            try settle(turns: 10)
        }
        #expect(sent < most, "nothing has stopped the peer")
    }
}

extension Connection {
    /// Writes until so many bytes are queued, beside what the kernel takes.
    func fillQueue(to count: Int) {
        while bufferedByteCount < count {
            if write([UInt8](repeating: 1, count: max(1, min(64 << 10, count - bufferedByteCount)))) == .closed {
                return
            }
        }
    }
}

/// Every one of `first` with every one of `second`: a test takes two lists of arguments, and this is one of them.
func combined<First, Second>(_ first: [First], _ second: [Second]) -> [(First, Second)] {
    first.flatMap { one in second.map { (one, $0) } }
}
