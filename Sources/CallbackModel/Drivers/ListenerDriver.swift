/// A listening socket: it accepts, and hands what it accepted to its ``Listener``.
@_spi(Engine)
open class ListenerDriver {
    /// For subclasses.
    public init() {}

    /// Who is told; set by the model before anything can happen. Outlives the driver's `closed` call.
    package final unowned var listener: Listener?

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

    /// Closes the socket now; `Listener.driverClosed` follows in a later callback.
    open func close() { unimplemented() }
}
