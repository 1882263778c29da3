/// A stream connection, accepted by a ``Listener`` or opened by this side: callbacks in, bytes out.
///
/// Callbacks run in the order `onOpen`? (`onData` | `onDrain` | `onTimeout`)\* `onEnd`? `onClose`, never inside
/// a call that user code makes, and each gets the connection as its first argument, so that none needs to capture
/// it. The loop owns the connection until `onClose` has run; then all callbacks are released. Every call on a
/// closed connection does nothing.
@safe public final class Connection {
    // MARK: Callbacks

    /// Sets a callback in the place of `old`. A closed connection keeps none: it would never be called, and never be
    /// released if it captured the connection.
    private func replace<Callback>(_ old: Callback, _ set: () -> Void) {
        if lifecycle != .closed { letGo(of: old, after: set) }
    }

    /// Bytes from the peer: at least one, in order, however the peer had cut them.
    ///
    /// The span is the loop's read buffer, lent for the call. Without this callback, bytes are read and dropped.
    /// `nil` while lines, messages or frames are told in its place.
    public var onData: ((Connection, Span<UInt8>) -> Void)? {
        get {
            if rare?.framing?.framer != nil { return nil }
            return watch.contains(.replaced) ? rare?.nextOnData : hasDataCallback ? dataCallback.body : nil
        }
        set {
            core.assertThread("Connection.onData")
            guard lifecycle != .closed else { return }
            leaveFraming()
            setOnData(newValue)
        }
    }

    func setOnData(_ newValue: ((Connection, Span<UInt8>) -> Void)?) {
        guard core.isDelivering(to: self) else { return setDataCallback(newValue) }
        watch.insert(.replaced)
        letGo(of: rare?.nextOnData) { needRare().nextOnData = newValue }
    }

    /// The connection that this side began is open, or TLS has shaken hands; nothing has been delivered yet. Runs at
    /// most once, first.
    public var onOpen: ((Connection) -> Void)? {
        get { rare?.onOpen }
        set { replace(onOpen) { needRare().onOpen = newValue } }
    }

    /// The connection is closed and its descriptor with it. Runs exactly once, last.
    public var onClose: ((Connection, CloseReason) -> Void)? {
        get { closeCallback }
        set { replace(onClose) { closeCallback = newValue } }
    }

    /// The peer has sent FIN and all its data was delivered. Runs at most once. Unless
    /// ``Options/allowsHalfOpen`` is set, the connection then ends itself after its queue is flushed.
    public var onEnd: ((Connection) -> Void)? {
        get { rare?.onEnd }
        set { replace(onEnd) { needRare().onEnd = newValue } }
    }

    /// The queue has fallen to the low water mark, after a write returned ``WriteStatus/saturated``. Runs once for each
    /// time the high water mark was reached, also after ``end()``, but not after ``close()``.
    public var onDrain: ((Connection) -> Void)? {
        get { drainCallback }
        set { replace(onDrain) { drainCallback = newValue } }
    }

    /// A time-out of ``Options/timeouts`` has passed. Without this callback the connection closes.
    public var onTimeout: ((Connection, TimeoutKind) -> TimeoutAction)? {
        get { rare?.onTimeout }
        set { replace(onTimeout) { needRare().onTimeout = newValue } }
    }

    /// What few connections have, allocated when first set, so that the others do not pay for it.
    final class Rare {
        var onEnd: ((Connection) -> Void)?
        var onTimeout: ((Connection, TimeoutKind) -> TimeoutAction)?
        var completions = CompletionQueue()
        /// What `onData` was set to while it ran.
        var nextOnData: ((Connection, Span<UInt8>) -> Void)?
        var onOpen: ((Connection) -> Void)?
        /// Made when frames are first asked for.
        var framing: Framing?
        /// What stands between the connection and its driver, such as TLS.
        @safe @exclusivity(unchecked) var layer: ConnectionLayer?
        /// Where the bytes go (``Connection/pipe(to:)``), and where they come from.
        var pipeTarget: Connection?
        var pipeSource: Connection?
        /// Whether the pipe has paused this source.
        var pipePause = PipePause.none
        var timeoutStarts = TimeoutStarts()
        /// Made when the first timer is.
        var timers: OwnedTimers?
        /// Made when the first task is begun.
        var tasks: OwnedTasks?
        /// Of a module above the model.
        var attachment: (any ConnectionAttachment)?
        /// Made when a minimum rate is asked for.
        var rateWindow: RateWindow?
        /// Made when a time-out first passes.
        var passedTimeouts: PassedTimeouts?
        /// Made when the loop is overloaded.
        var queueLook: QueueLook?
        /// The race that this connection is an attempt of.
        var race: HostRace?
        /// Since when ``Timeouts/close`` counts, in milliseconds of the loop's clock.
        var closingSince: UInt64?
        /// How long ``Connection/finish(within:)`` waits for the peer, from `closingSince` or later progress on.
        var finishLimit: Duration?
        /// Whether this side has closed with RST.
        var wasReset = false
        /// What this side was bound to, if it has a file.
        var boundFile: SocketFile?
        /// Stays when all else here is let go.
        var bytesUnsent: UInt64 = 0
    }

    // MARK: State

    // The order counts (swift.md 11): an instance is 216 bytes, the most that glibc's malloc puts into a block of 224.
    // What each message touches is unchecked (swift.md 1).

    /// `onData`, or a callback that does nothing: never `nil`, so a message makes no check.
    @safe @exclusivity(unchecked) private var dataCallback = DataCallback(body: { _, _ in })
    var closeCallback: ((Connection, CloseReason) -> Void)?
    /// Not in `Rare`: every server with back-pressure sets it.
    var drainCallback: ((Connection) -> Void)?

    /// Not copyable: swift.md 4. It is not replaced while it runs: a new one waits in `Rare`.
    private struct DataCallback: ~Copyable {
        let body: (Connection, Span<UInt8>) -> Void

        @inline(__always)
        borrowing func call(_ connection: Connection, _ bytes: Span<UInt8>) {
            body(connection, bytes)
        }
    }

    let core: LoopCore
    let driver: StreamDriver
    /// Who has accepted the connection; `nil` for one that this side began, and once it has closed.
    public internal(set) var listener: Listener?

    /// The peer's address, also after the peer has gone. Usually unnamed for a client of a Unix socket. Unnamed for a
    /// host while its addresses are tried.
    public internal(set) var remoteAddress: SocketAddress

    // Only `move` changes these three. `isLegal` says what goes together.
    @safe @exclusivity(unchecked) private(set) var output = Output.open
    @safe @exclusivity(unchecked) private(set) var input = Input.flowing
    private(set) var lifecycle = Lifecycle.starting

    /// Changes what is given, all at once. In debug builds it traps if the three do not go together.
    @inline(__always)
    func move(to newLifecycle: Lifecycle? = nil, output newOutput: Output? = nil, input newInput: Input? = nil) {
        if let newLifecycle { lifecycle = newLifecycle }
        if let newOutput { output = newOutput }
        if let newInput {
            input = newInput
            if !newInput.flows { rare?.framing?.stop() }
        }
        assert(
            Self.isLegal(lifecycle, output, input),
            "a connection cannot be \(lifecycle) with its output \(output) and its input \(input)")
    }

    /// What is looked at after a flush, after `onData` and when the queue changes. Empty on the fast path.
    struct Watch: OptionSet {
        let rawValue: UInt8
        /// A write returned `.saturated`; `onDrain` is owed.
        static let saturated = Watch(rawValue: 1)
        /// Completions wait.
        static let completions = Watch(rawValue: 2)
        /// Time-outs are set: activity is noted.
        static let timeouts = Watch(rawValue: 4)
        /// The next turn looks at this connection.
        static let putOff = Watch(rawValue: 8)
        /// It is open, and the next turn tells.
        static let opened = Watch(rawValue: 16)
        /// `onData` was set while it ran; the new one waits in `Rare`.
        static let replaced = Watch(rawValue: 32)
        /// Received bytes wait to be told, and nothing is read until they are (`Framing`).
        static let framesHeld = Watch(rawValue: 64)
        /// There is a ``ConnectionLayer``. Never removed.
        static let layered = Watch(rawValue: 128)
    }

    @safe @exclusivity(unchecked) var watch: Watch = []

    private var hasDataCallback = false

    /// The place in the loop's queue of time-outs; -1 for none.
    var timeoutIndex: Int32 = -1
    /// Fits: it is 1 GiB at most.
    @safe @exclusivity(unchecked) var highWaterMark: Int32

    /// The place of its run among the parked ones of the loop's batch (`WriteBatch`); -1 for none.
    @safe @exclusivity(unchecked) var batchIndex: Int32 = -1

    /// Bytes in the driver's queue, and those that a layer holds until its handshake is done.
    @safe @exclusivity(unchecked) package private(set) var queuedByteCount = 0
    @safe @exclusivity(unchecked) var acceptedByteCount: UInt64 = 0

    /// Bytes read: delivered to `onData`, or dropped without it.
    @safe @exclusivity(unchecked) public internal(set) var bytesRead: UInt64 = 0

    /// Written bytes that were dropped: by ``reset()``, a failure or a passed time-out. Final in `onClose`.
    ///
    /// An upper bound: libuv does not tell how much of a queued write had left before it failed.
    public var bytesUnsent: UInt64 { unsentByteCount }

    /// What `bytesUnsent` returns.
    var unsentByteCount: UInt64 {
        get { rare?.bytesUnsent ?? 0 }
        set { if newValue > 0 { needRare().bytesUnsent = newValue } }
    }

    /// The first cause of closing.
    var cause: CloseReason?

    var rare: Rare?
    var sharedOptions: SharedOptions

    // The place in the loop's list of connections (`ConnectionList`).
    var nextInLoop: Connection?
    var previousInLoop: Unmanaged<Connection>?

    // In milliseconds of the loop's clock. Once it closes, `lastReadAt` is when that began, and stays.
    var openedAt: UInt64
    @safe @exclusivity(unchecked) var lastReadAt: UInt64
    @safe @exclusivity(unchecked) var lastWriteAt: UInt64

    init(
        core: LoopCore, driver: StreamDriver, listener: Listener?, remoteAddress: SocketAddress,
        options: SharedOptions
    ) {
        self.core = core
        self.driver = driver
        self.listener = listener
        self.remoteAddress = remoteAddress
        sharedOptions = options
        highWaterMark = Int32(options.value.highWaterMark)
        let now = core.milliseconds
        openedAt = now
        lastReadAt = now
        lastWriteAt = now
        driver.serve(self)
        core.add(self)
    }

    /// Starts reading, unless the user's first callback has paused or closed the connection.
    func begin() {
        if lifecycle == .starting { move(to: .open) }
        // A write in the user's first callback may have met a reset: what came before it is still read.
        guard isReadable else { return }
        if input.flows { beginReading() }
        if input == .paused { core.watchPaused() }
        timeoutsChanged()
    }

    /// The driver's queue holds `count` bytes now.
    func setQueuedByteCount(_ count: Int) {
        let old = queuedByteCount
        queuedByteCount = count
        if count != old { core.queueChanged(of: self, from: old) }
    }

    func needRare() -> Rare {
        if let rare { return rare }
        let made = Rare()
        rare = made
        return made
    }
}

// MARK: - Reading

extension Connection {
    /// Whether the descriptor is closed, or closes now.
    var isOver: Bool {
        lifecycle == .closing || lifecycle == .closed
    }

    var isReadable: Bool {
        lifecycle == .open || lifecycle == .readingOut
    }

    /// What `StreamDriver.received` does.
    @inline(__always)
    fileprivate func receive(_ bytes: Span<UInt8>) {
        guard input == .flowing else { return receiveLayered(bytes) }
        receiveInClear(bytes)
    }

    /// Not inlined: swift.md 7.
    @inline(never)
    private func receiveLayered(_ bytes: Span<UInt8>) {
        if watch.contains(.layered) { layerReceived(bytes) }
    }

    /// What `ConnectionLayer.deliver` does.
    func receiveFromLayer(_ bytes: Span<UInt8>) {
        if input == .layered { receiveInClear(bytes) }
    }

    @inline(__always)
    private func receiveInClear(_ bytes: Span<UInt8>) {
        if core.isTimed { return receiveTimed(bytes) }
        bytesRead &+= UInt64(truncatingIfNeeded: bytes.count)
        deliver(bytes)
        core.flushBatch()
    }

    /// The same, measured.
    @inline(never)
    private func receiveTimed(_ bytes: Span<UInt8>) {
        core.noteEvent()
        let start = core.driver.nanoseconds
        bytesRead &+= UInt64(truncatingIfNeeded: bytes.count)
        deliver(bytes)
        core.flushBatch()
        core.noteCallback(.data, since: start)
    }

    /// Delivers what was kept back. It was counted when it came.
    func tellAgain(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        bytesRead &-= UInt64(bytes.count)
        if watch.contains(.layered) { receiveFromLayer(bytes.span) } else { receive(bytes.span) }
    }

    @inline(__always)
    private func deliver(_ bytes: Span<UInt8>) {
        unsafe core.delivering = .passUnretained(self)
        core.batch.lend(bytes)
        dataCallback.call(self, bytes)
        core.batch.endLending()
        core.delivering = nil
        // Behind the callback, so that `bytes` need not be kept for it.
        if !watch.isDisjoint(with: [.timeouts, .replaced]) { delivered() }
    }

    @inline(never)
    private func delivered() {
        if watch.contains(.timeouts), !isOver { lastReadAt = core.milliseconds }
        guard watch.contains(.replaced) else { return }
        watch.remove(.replaced)
        let next = rare?.nextOnData
        rare?.nextOnData = nil
        setDataCallback(next)
    }

    func setDataCallback(_ body: ((Connection, Span<UInt8>) -> Void)?) {
        // Not with `map` or `??`: swift.md 5.
        hasDataCallback = body != nil
        var callback = if let body { DataCallback(body: body) } else { DataCallback(body: { _, _ in }) }
        // The old one is released with `callback`, after the new one is set: its captures may set another one then.
        swap(&dataCallback, &callback)
    }

    /// What `StreamDriver.reachedEnd` does.
    func reachedEnd() {
        if lifecycle == .readingOut { return closeDriver() }
        guard input == .flowing else { return layerReachedEnd() }
        inputEnded()
    }

    /// The peer has finished.
    func inputEnded() {
        move(input: .ended)
        driver.stopReading()
        core.watchPaused()
        tellUnfinishedFrame()
        // It may have closed.
        guard input == .ended else { return }
        if cause == nil, output.isOpen { cause = .peerClosed }
        if let onEnd = rare?.onEnd { core.perform(.end) { onEnd(self) } }
        endPipe()
        closeIfEnded()
        guard lifecycle == .open else { return }
        if output.isOpen, !sharedOptions.value.allowsHalfOpen, !isPipeTarget, rare?.attachment?.holdsEnd != true {
            end()
        }
    }

    /// What `StreamDriver.readFailed` does.
    func readFailed(_ error: IOError) {
        noteFailure(error)
        closeDriver()
    }
}

/// What `StreamDriver.received` does. A function, not a method: swift.md 6.
@usableFromInline package func received(_ connection: Connection, _ bytes: Span<UInt8>) {
    connection.receive(bytes)
}
