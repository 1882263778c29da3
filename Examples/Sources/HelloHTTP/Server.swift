import CallbackServer

/// What all clients share.
public final class Server {
    let requestTimeout: Duration
    /// What a URI of this server begins with.
    let scheme: String
    private(set) var isClosing = false
    /// The page with its head, as nearly all clients want it; made once a second, since the head tells the time.
    private(set) var page: [UInt8] = []
    private var clients: [Connection: Client] = [:]

    /// `scheme` is what a URI of this server begins with: `http`, or `https` if TLS is spoken.
    public init(_ loop: EventLoop, _ options: HTTPOptions, scheme: String = "http") {
        requestTimeout = .seconds(options.requestTimeout)
        self.scheme = scheme
        page = Array(Response(.ok).text().utf8)
        let clock = loop.schedule(after: .seconds(1), repeating: .seconds(1)) { [unowned self] _ in
            page = Array(Response(.ok).text().utf8)
        }
        clock.unref()
    }

    /// For a listener's `onConnection`.
    public func serve(_ connection: Connection) {
        let client = Client(connection, self)
        clients[connection] = client
        connection.onFrames(limit: Client.longestLine) { _, reader in client.read(&reader) }
        connection.onDrain = { _ in client.drained() }
        connection.onClose = { [self] connection, _ in clients[connection] = nil }
    }

    /// A request that has begun is still answered; the others have nothing to wait for.
    public func close() {
        isClosing = true
        for client in clients.values where !client.isInsideRequest { client.hangUp() }
    }
}
