package import CallbackModel

/// What lies between a scenario and its sockets: nothing, or a layer such as TLS.
package struct Transport: Sendable {
    package typealias Listen =
        @Sendable (EventLoop, SocketAddress, Listener.Options, @escaping (Connection) -> Void) throws(IOError) ->
        Listener
    package typealias Connect =
        @Sendable (EventLoop, SocketAddress, EventLoop.ConnectOptions) throws(IOError) ->
        Connection

    /// How the side under test listens.
    package let listen: Listen
    /// How the side under test connects.
    package let connect: Connect
    /// Whether a connection that was accepted is open at once. With a layer it opens later, in `onOpen`.
    package let opensAtOnce: Bool
    /// What a peer speaks, once its socket is connected. `isAccepted`: the side under test has begun.
    package let layer: @Sendable (PeerSocket, _ isAccepted: Bool) throws(PeerFailure) -> (any PeerLayer)?

    /// A layer. That of the peers is a witness: it shares no code with what is under test.
    package init(
        listen: @escaping Listen, connect: @escaping Connect,
        layer: @escaping @Sendable (PeerSocket, _ isAccepted: Bool) throws(PeerFailure) -> any PeerLayer
    ) {
        self.init(listen: listen, connect: connect, opensAtOnce: false, layer: layer)
    }

    private init(
        listen: @escaping Listen, connect: @escaping Connect, opensAtOnce: Bool,
        layer: @escaping @Sendable (PeerSocket, Bool) throws(PeerFailure) -> (any PeerLayer)?
    ) {
        self.listen = listen
        self.connect = connect
        self.opensAtOnce = opensAtOnce
        self.layer = layer
    }

    /// The sockets themselves.
    static let plain = Transport(
        listen: { loop, address, options, onConnection throws(IOError) in
            try loop.listen(on: address, options: options, onConnection: onConnection)
        },
        connect: { loop, address, options throws(IOError) in try loop.connect(to: address, options: options) },
        opensAtOnce: true, layer: { _, _ in nil })
}

/// What a peer speaks over its socket. Each call ends by the socket's deadline.
package protocol PeerLayer: AnyObject {
    /// Does what has to be done before the first byte.
    func begin() throws(PeerFailure)

    /// Does as much of it as can be done without waiting. A failure shows in later calls.
    func advance()

    /// As `PeerSocket.send`: what was not taken is given again.
    func send(_ bytes: UnsafeRawBufferPointer) -> Result<Int?, PeerFailure>

    /// As `PeerSocket.receive`. 0 is the layer's own end, with FIN behind it; `PeerFailure.truncation` is FIN alone.
    func receive(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int?, PeerFailure>

    /// Whether bytes wait that the socket has given already.
    var hasInput: Bool { get }

    /// Says that nothing more comes; waits for room if it `mayWait`.
    func end(mayWait: Bool) throws(PeerFailure)
}
