/// What stands between a connection and its driver, such as TLS: it turns what was received into what is delivered, and
/// what was written into what is sent.
///
/// Until its handshake is done, the connection is not open: what is written is held, and nothing is delivered. Counts
/// of bytes that users see are of what they wrote and read. Only the driver counts what the layer makes of it.
@_spi(Engine)
@safe open class ConnectionLayer {
    /// For subclasses.
    public init() {}

    /// `nil` before the layer is inserted, and once the connection has closed.
    package final unowned var connection: Connection?

    /// How far the layer is.
    package enum Phase {
        /// The driver is not open yet.
        case waiting
        case handshaking
        /// The handshake is done, and the user's callback runs. What is written is still held.
        case opening
        case open
        /// Nothing more is sent: a write has failed, or the connection closes.
        case muted
    }

    // What each message touches is unchecked (swift.md 1).

    @safe @exclusivity(unchecked) package internal(set) final var phase = Phase.waiting

    /// What was written before the layer was open.
    @safe @exclusivity(unchecked) final var held: [UInt8] = []
    /// What was received and has to wait: for `resume()`, or for the next turn.
    @safe @exclusivity(unchecked) final var kept: [UInt8] = []
    /// The peer's end was found behind bytes whose callback has paused.
    @safe @exclusivity(unchecked) final var hasPendingEnd = false
    /// Bytes in the driver's queue.
    @safe @exclusivity(unchecked) final var driverQueue = 0
    /// What the driver was ever given, also before there was a layer.
    @safe @exclusivity(unchecked) final var handedOverCount: UInt64 = 0
    /// The end of the output was asked for, and was handed over.
    final var isFinishWanted = false
    final var isFinished = false
    /// Called in the place of `onOpen`, on a connection that was open before.
    final var onSecured: ((Connection) -> Void)?

    // MARK: Asked by the model

    /// The driver is open: whoever speaks first sends now.
    open func begin() { unimplemented() }

    /// What one read brought, or what was kept.
    open func received(_ bytes: Span<UInt8>, _ connection: Connection) { unimplemented() }

    /// Whether the layer itself keeps received bytes that may be delivered.
    open var hasUnread: Bool { false }

    /// The peer's FIN.
    open func reachedEnd() { unimplemented() }

    /// Makes of `bytes` what is sent, and hands it over.
    open func seal(_ bytes: Span<UInt8>, _ connection: Connection) { unimplemented() }

    /// Hands over what says that nothing more comes.
    open func sealEnd() { unimplemented() }

    /// How many sealed bytes, as they were written, the kernel has not taken.
    open var sealedByteCount: Int { unimplemented() }

    /// Follows each hand-over: the driver has `bytes`, and its queue holds `queued` bytes.
    open func handedOver(_ bytes: Span<UInt8>, queued: Int) { unimplemented() }

    /// The driver's queue has become shorter: it holds `count` bytes.
    open func driverQueueChanged(to count: Int) { unimplemented() }

    /// Whether the peer is about to send something of the layer's own. If that came after a close, the kernel would
    /// send RST, and drop what the peer has not got yet: so the close waits for it.
    open var awaitsInput: Bool { false }

    /// The connection has closed.
    open func closed(_ reason: CloseReason) {}

    /// The loop is let go: no callback runs.
    open func abandoned() {}

    // MARK: Told to the model

    /// Sends bytes that `seal`, `sealEnd` or the handshake have made. Afterwards the connection may be closing.
    package final func handOver(_ bytes: Span<UInt8>, _ connection: Connection) {
        if phase != .muted { connection.handOverSealed(bytes, self) }
    }

    /// The handshake is done. Runs the user's callback, then sends what was held.
    package final func opened() { connection?.layerOpened() }

    /// Delivers what was received.
    package final func deliver(_ bytes: Span<UInt8>, _ connection: Connection) { connection.receiveFromLayer(bytes) }

    /// The peer has said that nothing more comes.
    package final func ended() { connection?.layerFoundEnd() }

    /// The peer's FIN came too early: it is no end.
    package final func truncated() { connection?.layerFailed(.truncated) }

    /// The peer has broken the layer's protocol, or was refused.
    package final func failed(_ error: IOError) { connection?.layerFailed(.failed(error)) }

    /// Keeps bytes for a later call of `received`: in the next turn, or after `resume()`. Until then nothing is read.
    package final func keep(_ bytes: Span<UInt8>) { connection?.keepForLayer(bytes, self) }

    /// Whether `deliver` would deliver.
    package final var mayDeliver: Bool { connection.map { $0.input == .layered && $0.isReadable } ?? false }
}
