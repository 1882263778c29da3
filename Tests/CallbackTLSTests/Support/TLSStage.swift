import CallbackServer
import CallbackTLS
import Glibc
import ServerTestSupport
import TestSupport
import Testing

/// A server that speaks TLS, and clients on the same loop.
final class TLSStage {
    let loop: EventLoop
    private(set) var listener: Listener!
    /// Those that were accepted, in their order.
    private(set) var served: [Served] = []
    private(set) var failures: [TLS.HandshakeFailure] = []
    /// Called for each at accept, after the callbacks here are set.
    var onConnection: (Served) -> Void = { _ in }

    init(
        _ engine: Engine, _ server: TLS.Server? = nil, loop options: EventLoop.Options = .init(),
        listening: Listener.Options = .init()
    ) throws {
        loop = try EventLoop(engine: engine, options: options)
        listener = try loop.listen(
            on: .ipv4("127.0.0.1", port: 0), tls: try server ?? Certificates.server(), options: listening
        ) { [unowned self] connection in
            let served = Served(connection)
            self.served.append(served)
            self.onConnection(served)
        }
        listener.onHandshakeFailed = { [unowned self] _, failure in self.failures.append(failure) }
    }

    /// What a test has set may capture the connection that it is set on.
    deinit {
        for served in served { served.letGo() }
    }

    var port: UInt16 { UInt16(listener.localAddress.port!) }

    /// A client of this library; to the listener, or to `address` in front of it.
    func connect(
        _ client: TLS.Client? = nil, to address: SocketAddress? = nil, options: EventLoop.ConnectOptions = .init()
    ) throws -> Served {
        Served(
            try loop.connect(
                to: address ?? listener.localAddress, tls: try client ?? Certificates.client(), options: options))
    }

    func run(until condition: @escaping () -> Bool, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try loop.run(
            until: condition, sourceLocation: sourceLocation,
            whenLate: "served \(self.served.map(\.events)), failures \(self.failures)")
    }
}

/// Waits until the kernel knows of the reset: on a busy machine that is later than the call that has sent it.
func waitForReset(of connection: Connection, sourceLocation: SourceLocation = #_sourceLocation) {
    var entry = pollfd(fd: connection.descriptor, events: 0, revents: 0)
    #expect(poll(&entry, 1, 30_000) == 1, sourceLocation: sourceLocation)
}

/// A connection and all that it was told.
final class Served {
    let connection: Connection
    private(set) var received: [UInt8] = []
    private(set) var events: [String] = []
    private(set) var reason: CloseReason?
    private(set) var failure: TLS.HandshakeFailure.Cause?
    private(set) var isOpen = false
    var onOpen: (Connection) -> Void = { _ in }
    var onData: (Connection, Int) -> Void = { _, _ in }
    var echoes = false

    init(_ connection: Connection) {
        self.connection = connection
        connection.onOpen = { [self] connection in
            self.events.append("open")
            self.isOpen = true
            self.onOpen(connection)
        }
        connection.onData = { [self] connection, bytes in
            if self.events.last != "data" { self.events.append("data") }
            self.received.append(copying: bytes)
            if self.echoes { connection.write(bytes) }
            self.onData(connection, bytes.count)
        }
        connection.onEnd = { [self] _ in self.events.append("end") }
        connection.onDrain = { [self] _ in self.events.append("drain") }
        connection.onClose = { [self] connection, reason in
            self.events.append("close")
            self.reason = reason
            self.failure = connection.handshakeFailure
        }
    }

    func letGo() {
        onOpen = { _ in }
        onData = { _, _ in }
    }

    var text: String { String(decoding: received, as: UTF8.self) }
    var isClosed: Bool { reason != nil }

    /// Not `==` in an expectation: of many bytes that differ it takes minutes to say where.
    func hasReceived(_ bytes: [UInt8]) -> Bool { received == bytes }
}

/// Stands between a client and a server, and sees every byte that they exchange.
final class Wire {
    let listener: Listener
    private(set) var client: Connection?
    private(set) var server: Connection?
    /// How many bytes have passed each way.
    private(set) var fromClient = 0
    private(set) var fromServer = 0
    /// What becomes of a part; what it returns is passed on.
    var change: (_ isFromClient: Bool, _ bytes: [UInt8]) -> [UInt8] = { $1 }

    init(_ loop: EventLoop, to address: SocketAddress) throws {
        var both: ((Connection) -> Void)?
        var options = Listener.Options()
        options.connection.allowsHalfOpen = true
        listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { both?($0) }
        both = { [self, unowned loop] client in
            var connecting = EventLoop.ConnectOptions()
            connecting.connection.allowsHalfOpen = true
            guard let server = try? loop.connect(to: address, options: connecting) else { return client.reset() }
            self.client = client
            self.server = server
            client.onData = { [self] _, bytes in
                self.fromClient += bytes.count
                server.write(self.change(true, Array(copying: bytes)))
            }
            server.onData = { [self] _, bytes in
                self.fromServer += bytes.count
                client.write(self.change(false, Array(copying: bytes)))
            }
            client.onEnd = { _ in server.end() }
            server.onEnd = { _ in client.end() }
            client.onClose = { _, reason in if reason != .localClose, reason != .peerClosed { server.reset() } }
            server.onClose = { _, reason in if reason != .localClose, reason != .peerClosed { client.reset() } }
        }
    }
}
