/// A listening socket: it accepts, and hands what it accepted to its ``Listener``.
@_spi(Engine)
open class ListenerDriver {
    /// For subclasses.
    public init() {}

    /// The loop owns the listener until the driver has called `closed`. Set before anything can be told.
    final unowned var listener: Listener?

    // MARK: Asked by the model

    /// The listening descriptor; -1 once it is closed.
    open var descriptor: Int32 { unimplemented() }

    /// The address the kernel bound, with the port it chose.
    open var localAddress: SocketAddress { unimplemented() }

    /// Accepts whenever clients wait, until `pause()`. `resume()` twice is `resume()` once.
    open func resume() { unimplemented() }

    /// Leaves clients in the kernel's backlog.
    open func pause() { unimplemented() }

    /// Whether an accept would find a client now. One system call, made only by a drain.
    open var hasWaitingClients: Bool { unimplemented() }

    /// Closes the socket now; `closed` follows in a later callback.
    open func close() { unimplemented() }

    // MARK: Told to the model

    /// What to do with the next client that waits. Asked before each accept.
    package final var admission: Listener.Admission { listener?.admission ?? .stop }

    /// A client that was accepted, if another loop of a group is to serve it; asked before a stream is made. Returns
    /// false if it stays. Otherwise the descriptor is the model's.
    package final func handOver(_ client: Int32, remoteAddress: SocketAddress) -> Bool {
        listener?.handOver(client, remoteAddress) ?? false
    }

    /// A client, connected to `stream`.
    package final func accepted(_ stream: StreamDriver, remoteAddress: SocketAddress) {
        listener?.accepted(stream, remoteAddress: remoteAddress)
    }

    /// `count` clients were accepted and closed at once in this wake-up.
    package final func shed(_ count: Int, _ cause: Listener.Shed.Cause) { listener?.shed(count, cause) }

    /// What may be accepted in this wake-up is accepted.
    package final func wakeUpEnded() { listener?.wakeUpEnded() }

    /// Accepting failed, and would fail again at once.
    package final func acceptFailed(_ error: IOError, isDescriptorLimit: Bool = false) {
        listener?.acceptFailed(error, isDescriptorLimit: isDescriptorLimit)
    }

    /// The socket is closed.
    package final func closed() { listener?.driverClosed() }
}
