import CallbackServer
import Glibc
import TestSupport
import Testing

/// States in which a naive level-triggered loop is woken again and again for nothing: what the kernel reports is
/// not what the loop waits for (Vendor-notes/linux-readiness.md).
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A loop sleeps while nothing happens` {
    @Test(arguments: Engine.allCases, QuietState.allCases)
    func `in every state that invites it to spin`(engine: Engine, state: QuietState) throws {
        let scene = try QuietScene(engine)
        let kept = try scene.enter(state)
        defer { withExtendedLifetime(kept) {} }
        let turns = try scene.turns(in: .milliseconds(250))
        // 20 turns a second, and one for the end of the measurement.
        #expect(turns <= 6, "\(turns) turns in 250 ms")
    }

    @Test(arguments: Engine.allCases)
    func `and the turns are counted: one for each message`(engine: Engine) throws {
        let scene = try QuietScene(engine)
        let (connection, client) = try scene.connect()
        var received = 0
        connection.onData = { connection, bytes in
            received += bytes.count
            connection.write(bytes)
        }
        let before = scene.loop.metrics.turns
        for count in 1...20 {
            try client.send("x")
            try scene.loop.run(until: { received == count })
            _ = try client.receive(exactly: 1)
        }
        #expect(scene.loop.metrics.turns - before >= 20)
    }
}

/// What the state is, from the loop's side.
enum QuietState: CaseIterable {
    case `paused, nothing unread`
    case `paused, data unread`
    case `paused, data and FIN unread`
    case `paused, FIN sent and received: a hang-up`
    case `paused, reset: an error`
    case `half-open, FIN received and told`
    case `half-open, FIN received, queue full`
    case `FIN sent, peer silent`
    case `an urgent byte unread`
    case `queue full, peer does not read`
    case `closing, queue full, peer does not read`
    case `closed, a duplicate of its descriptor open and readable`
    case `listener paused, clients waiting`
    case `listener full, clients waiting`
}

/// A loop with a listener, and clients that are played by the same thread.
private final class QuietScene {
    let loop: EventLoop
    private let listener: Listener
    private var accepted: [Connection] = []

    init(_ engine: Engine) throws {
        var options = EventLoop.Options()
        options.collectsMetrics = true
        loop = try EventLoop(engine: engine, options: options)
        var listening = Listener.Options()
        listening.maxConnections = 2
        listening.connection.allowsHalfOpen = true
        listening.connection.sendBufferSize = 4_096
        listening.connection.timeouts.close = .seconds(60)
        var take: (Connection) -> Void = { _ in }
        listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), options: listening) { take($0) }
        take = { [unowned self] in accepted.append($0) }
    }

    func connect() throws -> (Connection, PlainClient) {
        let count = accepted.count
        let client = try waitingClient()
        try loop.run(until: { self.accepted.count > count })
        return (accepted[count], client)
    }

    private func waitingClient() throws -> PlainClient {
        try PlainClient(port: UInt16(listener.localAddress.port ?? 0), receiveBuffer: 4_096)
    }

    /// Brings a connection or the listener into the state; gives what must stay alive for it.
    func enter(_ state: QuietState) throws -> [any Sendable] {
        switch state {
        case .`listener paused, clients waiting`:
            listener.pause()
            return try [waitingClient(), waitingClient()]
        case .`listener full, clients waiting`:
            return try [connect().1, connect().1, waitingClient(), waitingClient()]
        default:
            let (connection, client) = try connect()
            let duplicate = try enter(state, connection, client)
            return [client] + duplicate
        }
    }

    private func enter(_ state: QuietState, _ connection: Connection, _ client: PlainClient) throws -> [any Sendable] {
        var hasEnded = false
        connection.onEnd = { _ in hasEnded = true }
        switch state {
        case .`paused, nothing unread`:
            connection.pause()
        case .`paused, data unread`:
            connection.pause()
            try client.send("unread")
        case .`paused, data and FIN unread`:
            connection.pause()
            try client.send("unread")
            try client.halfClose()
        case .`paused, FIN sent and received: a hang-up`:
            connection.pause()
            connection.end()
            try client.halfClose()
        case .`paused, reset: an error`:
            connection.pause()
            try client.reset()
        case .`half-open, FIN received and told`:
            try client.halfClose()
            try loop.run(until: { hasEnded })
        case .`half-open, FIN received, queue full`:
            fillQueue(of: connection)
            try client.halfClose()
            try loop.run(until: { hasEnded })
        case .`FIN sent, peer silent`:
            connection.end()
        case .`an urgent byte unread`:
            try client.sendUrgent(7)
        case .`queue full, peer does not read`:
            connection.pause()
            fillQueue(of: connection)
            _ = try client.sendSome([UInt8](repeating: 0, count: 1 << 20))
        case .`closing, queue full, peer does not read`:
            fillQueue(of: connection)
            connection.close()
        case .`closed, a duplicate of its descriptor open and readable`:
            let duplicate = PlainClient(adopting: fcntl(connection.descriptor, F_DUPFD_CLOEXEC, 0))
            var isClosed = false
            connection.onClose = { _, _ in isClosed = true }
            connection.close()
            try loop.run(until: { isClosed })
            try client.send("unread")
            return [duplicate]
        case .`listener paused, clients waiting`, .`listener full, clients waiting`:
            break
        }
        return []
    }

    private func fillQueue(of connection: Connection) {
        connection.write([UInt8](repeating: 1, count: 4 << 20))
        #expect(connection.bufferedByteCount > 0, "the kernel has taken it all")
    }

    /// How many turns the loop makes in `time`, once what led to the state has been dealt with.
    func turns(in time: Duration) throws -> UInt64 {
        for _ in 0..<20 { try loop.run(.noWait) }
        let before = loop.metrics.turns
        loop.schedule(after: time) { [loop] _ in loop.stop() }
        try loop.run()
        return loop.metrics.turns - before
    }
}
