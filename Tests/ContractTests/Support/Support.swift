import CallbackServer
import Glibc
import ServerTestSupport
import TestSupport
import Testing

/// A server on one loop and blocking peers on another thread: how nearly every contract test is made.
///
/// The loop runs on the test's own thread, so that handlers may use what the test captured. It ends when the
/// peer's code has returned and every connection is closed, or when the time limit passes, which is a failure.
final class Stage {
    let loop: EventLoop
    private(set) var listener: Listener
    /// What happened, in order, as handlers noted it.
    private(set) var transcript: [String] = []
    /// Clients that the listener turned away, and errors of accepting: why a test may wait in vain for a client.
    private let troubles = Troubles()
    /// Handlers may hold the loop until this is true.
    var mayEnd: () -> Bool = { true }

    /// A listener on 127.0.0.1 with a port of the kernel's choice, and `serve` for each client.
    init(
        _ engine: Engine, loop loopOptions: EventLoop.Options = .init(), options: Listener.Options = .init(),
        serve: @escaping (Connection) -> Void = { _ in }
    ) throws {
        loop = try EventLoop(engine: engine, options: loopOptions)
        listener = try loop.listen(
            on: .ipv4("127.0.0.1", port: 0), options: options, onConnection: serve)
        // A test that sets these is told instead.
        listener.onShed = { [troubles] _, shed in troubles.all.append("shed: \(shed)") }
        listener.onError = { [troubles] _, error in troubles.all.append("error: \(error)") }
    }

    var port: UInt16 { UInt16(listener.localAddress.port ?? 0) }

    func note(_ event: String) { transcript.append(event) }

    /// Runs the loop while `peer` runs on its own thread; gives what it gave.
    @discardableResult
    func run<Value: Sendable>(
        timeLimit: Duration = .seconds(30), sourceLocation: SourceLocation = #_sourceLocation,
        _ peer: @escaping @Sendable (UInt16) throws -> Value
    ) throws -> Value {
        let port = port
        let thread = onThread { try peer(port) }
        try run(
            until: {
                // A peer may have come and gone before the loop has accepted it.
                thread.isFinished && self.listener.connectionCount == 0 && waitingClients(port: port) == 0
                    && self.mayEnd()
            },
            timeLimit: timeLimit, sourceLocation: sourceLocation)
        return try thread.value(timeLimit: .seconds(1))
    }

    /// Runs the loop until `condition` holds, looking every 2 ms.
    func run(
        until condition: @escaping () -> Bool, timeLimit: Duration = .seconds(30),
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try loop.run(
            until: condition, timeLimit: timeLimit, sourceLocation: sourceLocation,
            whenLate: "listener: \(self.troubles.all), \(self.listener.connectionCount) connections, "
                + "\(waitingClients(port: self.port)) wait, of \(self.transcript.count) notes the last: "
                + "\(self.transcript.suffix(5))")
    }

    private final class Troubles {
        var all: [String] = []
    }
}

extension EventLoop {
    /// Runs until `diary` is closed and the peer's code has returned; gives what it gave.
    @discardableResult
    func run<Value: Sendable>(
        _ diary: Diary, _ peer: RunningThread<Value>, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Value {
        try run(until: { diary.isClosed && peer.isFinished }, sourceLocation: sourceLocation)
        return try peer.value(timeLimit: .seconds(1))
    }
}

/// An echo handler with back-pressure, the one that most tests need.
func echo(_ connection: Connection) {
    connection.onData = { connection, bytes in
        if connection.write(bytes) == .saturated { connection.pause() }
    }
    connection.onDrain = { $0.resume() }
}
