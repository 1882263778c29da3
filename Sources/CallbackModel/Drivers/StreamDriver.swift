/// A connected stream socket: it reads, writes what it can, queues the rest, and closes.
@_spi(Engine)
@safe open class StreamDriver {
    /// For subclasses.
    public init() {}

    /// The loop owns the connection until the driver has called `closed`: no retain is needed (swift.md 3). Unchecked
    /// (swift.md 1): it is set before anything can be told.
    @safe @exclusivity(unchecked) @usableFromInline package final var connection: Unmanaged<Connection>? = nil

    final func serve(_ connection: Connection) {
        unsafe self.connection = .passUnretained(connection)
    }

    // MARK: Asked by the model

    /// The descriptor, for logs; -1 once it is closed.
    open var descriptor: Int32 { unimplemented() }

    /// This end's address; `nil` once the descriptor is closed.
    open var localAddress: SocketAddress? { unimplemented() }

    /// Begins to connect. Bytes are queued until the connection is open.
    open func connect(to address: SocketAddress) -> ConnectOutcome { unimplemented() }

    /// A positive errno if the connection has failed, else `nil`. For connections that do not read: no event tells it.
    open var loss: Int32? { unimplemented() }

    /// Whether a read would find something now: bytes, the end or an error. One system call, made only when a
    /// time-out has passed, as are the next two.
    open var hasInput: Bool { unimplemented() }

    /// Whether a write would move something now, or find an error; while it connects, whether that is decided.
    open var hasRoom: Bool { unimplemented() }

    /// Whether bytes that the kernel has taken are still unacknowledged, or, on a Unix socket, unread. One system call,
    /// made only when a passed time-out closes the connection.
    open var hasUnacknowledged: Bool { unimplemented() }

    /// What the kernel knows of the bytes that it has taken; `nil` if it does not tell.
    open var sendProgress: SendProgress? { unimplemented() }

    /// Sends what the kernel takes at once, unless something is queued before it, and queues a copy of the rest.
    ///
    /// Returns how many bytes are queued afterwards, or a negative errno. After an error nothing more is ever
    /// sent: the peer has an exact prefix.
    open func send(_ bytes: Span<UInt8>) -> Int { unimplemented() }

    /// The same; an engine may keep the array instead of a copy of what it queues.
    open func send(keeping bytes: [UInt8]) -> Int { send(bytes.span) }

    /// How many bytes wait in the queue.
    open var queuedByteCount: Int { unimplemented() }

    /// Delivers data from now on: `received`, at last `reachedEnd` or `readFailed`.
    open func startReading() { unimplemented() }

    /// Delivers no more, also when called from inside `received`.
    open func stopReading() { unimplemented() }

    /// Sends FIN when the queue is empty, then calls `outputEnded`.
    open func finish() { unimplemented() }

    /// Drops the queue and closes the descriptor now; `closed` follows in a later callback.
    ///
    /// With `resetting` the peer gets RST in place of FIN (SO_LINGER with zero, socket(7)).
    open func close(resetting: Bool) { unimplemented() }

    // MARK: Told to the model

    /// Tells the connection, if one was made for this driver.
    @inline(__always)
    private final func tell(_ body: (Connection) -> Void) {
        unsafe connection?._withUnsafeGuaranteedRef {
            $0.core.noteEvent()
            body($0)
        }
    }

    /// The connection that `connect` began is open.
    package final func opened() {
        // An attempt that wins its race is let go in this call (`Connection.surrenderDriver`; swift.md 13).
        guard let connection = unsafe connection?.takeUnretainedValue() else { return }
        connection.core.noteEvent()
        withExtendedLifetime(connection) { connection.opened() }
    }

    /// The connection that `connect` began has failed.
    package final func connectFailed(_ error: IOError) { tell { $0.connectFailed(error) } }

    /// What one read brought, at least one byte, in the loop's buffer.
    @inlinable package final func received(_ bytes: Span<UInt8>) {
        // Only a connection starts the reading, so there is one.
        unsafe connection.unsafelyUnwrapped._withUnsafeGuaranteedRef { CallbackModel.received($0, bytes) }
    }

    /// A read gave 0: the peer's FIN, behind all its data.
    package final func reachedEnd() { tell { $0.reachedEnd() } }

    /// A read failed.
    package final func readFailed(_ error: IOError) { tell { $0.readFailed(error) } }

    /// The queue has become shorter.
    package final func queueShrank(to queued: Int) { tell { $0.queueShrank(to: queued) } }

    /// `unsent` bytes of the queue could not be sent; `nil` if the number is not known. `send` returns its failures.
    package final func queueFailed(_ error: IOError, unsent: Int? = nil) {
        tell { $0.queueFailed(error, unsent: unsent) }
    }

    /// FIN is sent, or could not be since the connection has gone.
    package final func outputEnded(_ error: IOError?) { tell { $0.outputEnded(error) } }

    /// The descriptor is closed and its memory given back.
    package final func closed() {
        // The loop, perhaps the last owner of the connection, lets go of it in this call (swift.md 13).
        guard let connection = unsafe connection?.takeUnretainedValue() else { return }
        withExtendedLifetime(connection) { connection.driverClosed() }
    }
}

/// What the kernel knows of the bytes that it has taken from a stream.
@_spi(Engine)
public enum SendProgress: Equatable {
    /// TCP: how many bytes the peer's kernel has acknowledged since the connection began, and how many milliseconds
    /// ago it last made room for new ones.
    case acknowledged(UInt64, roomMadeBefore: UInt64)
    /// Other sockets: how much the peer has not taken yet, and how much that is at least when the kernel takes no more.
    case untaken(Int, full: Int)
}

/// What came of the call that begins to connect.
@_spi(Engine)
public enum ConnectOutcome {
    /// It is open already.
    case connected
    /// `StreamDriver.opened` or `connectFailed` follows in a later callback.
    case inProgress
    case failed(IOError)
}
