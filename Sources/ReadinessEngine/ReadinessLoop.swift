internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc
internal import LinuxSockets

/// The loop of the reference engines: its turn, and the drivers that it makes.
///
/// Together with the file of one poller it is the engine in small. `ReadinessStream` and `ReadinessListener` say what
/// happens to a descriptor that is ready. `SourceTable` knows its owner.
@safe package final class ReadinessLoop: LoopDriver {
    let poller: AnyPoller
    // Allocated in `init` once nothing can fail without `deinit`, which gives it back.
    /// One for all connections, since only one is read at a time.
    let readBuffer: UnsafeMutableRawPointer
    let readBufferSize: Int
    /// A connection's turn ends with this many reads that fill the buffer.
    let readsPerTurn: Int
    // Unchecked, since every turn looks at them (swift.md 1). No access lasts while a callback or another method runs.
    @safe @exclusivity(unchecked) var timers = TimerQueue()
    @safe @exclusivity(unchecked) private var sources = SourceTable()
    @safe @exclusivity(unchecked) private var later: [Later] = []
    @safe @exclusivity(unchecked) private var attention: Attention = .notHeld
    @safe @exclusivity(unchecked) private var turns: UInt64 = 0
    private var asleep: UInt64 = 0
    /// The clock in milliseconds, as first asked for since the turn began or the wait ended; 0 before.
    @safe @exclusivity(unchecked) private var cachedClock: UInt64 = 0

    /// Raised by other threads and signal handlers.
    private let counter: Counter
    /// Made at the first use.
    private var signals: SignalReceiver?
    private var mainQueue: Token?

    /// What a turn has to look at besides descriptors. Empty while there are only messages.
    private struct Attention: OptionSet {
        let rawValue: UInt8
        /// The model has put something off to the next turn.
        static let turnRequested = Attention(rawValue: 1)
        /// `stop()` was called.
        static let stopped = Attention(rawValue: 2)
        /// Something is to be told in step 4.
        static let later = Attention(rawValue: 4)
        /// Timers are armed.
        static let timers = Attention(rawValue: 8)
        /// No listener and no connection is open: the loop may be at its end.
        static let notHeld = Attention(rawValue: 16)
        /// The time spent waiting is measured.
        static let measured = Attention(rawValue: 32)
        /// The run ends with this turn, which waits for an event.
        static let single = Attention(rawValue: 64)
    }

    /// What step 4 of a turn tells the model.
    enum Later {
        /// This stream is closed.
        case closed(ReadinessStream)
        case other(() -> Void)
    }

    /// An empty loop. Throws EMFILE, ENFILE or ENOMEM: waiting costs it one or two descriptors.
    package init(_ kind: PollerKind, options: EventLoop.Options) throws(IOError) {
        linux_disarm_sigpipe()
        poller = try AnyPoller(kind)
        do throws(IOError) {
            counter = try Counter()
        } catch {
            poller.close()
            throw error
        }
        if options.collectsMetrics { attention.insert(.measured) }
        readBufferSize = options.readBufferSize
        readsPerTurn = options.readsPerTurn
        unsafe readBuffer = .allocate(byteCount: readBufferSize, alignment: 64)
        super.init()
        do throws(IOError) {
            try poller.change(enter(counter.descriptor, .counter), from: [], to: .readable)
        } catch {
            shutDown()
            throw error
        }
    }

    deinit {
        unsafe readBuffer.deallocate()
    }

    // MARK: The turn

    package override func run(_ mode: EventLoop.RunMode) throws(IOError) {
        // Told apart once a run, so that each turn is compiled for its poller and calls it directly.
        switch poller {
        case .epoll(let poller): try run(mode, poller)
        case .poll(let poller): try run(mode, poller)
        case .select(let poller): try run(mode, poller)
        }
    }

    private func run(_ mode: EventLoop.RunMode, _ poller: some Poller) throws(IOError) {
        defer { attention.subtract([.stopped, .single]) }
        if mode == .once { attention.insert(.single) }
        while isAlive, !attention.contains(.stopped) {
            try turn(poller, mayWait: mode != .noWait)
            if mode != .untilIdle { return }
        }
    }

    /// One turn. Callbacks are called in steps 1, 3, 4 and 5, and in each step only for what was there at its
    /// beginning, so that every turn ends.
    @inline(__always)
    private func turn(_ poller: some Poller, mayWait: Bool) throws(IOError) {
        turns &+= 1
        // 1. What was put off to this turn: zero-delay timers, completions, `onDrain`.
        if attention.contains(.turnRequested) { beginTurn() }
        // 2. Wait: for ever if there are only descriptors, else as long as the rest allows.
        let count = try attention.isEmpty && mayWait ? poller.wait(milliseconds: -1) : waitRarely(poller, mayWait)
        cachedClock = 0
        // 3. Input and output, in the order in which the poller reports it.
        var index = 0
        while index < count {
            deliver(poller.event(index))
            index &+= 1
        }
        // 4. What has closed since step 4 of the previous turn.
        if attention.contains(.later) { deliverLater() }
        // 5. Timers that are due.
        if attention.contains(.timers) { fireTimers() }
    }

    @inline(never)
    private func beginTurn() {
        attention.remove(.turnRequested)
        cachedClock = 0
        requestedTurnBegan()
    }

    @inline(never)
    private func waitRarely(_ poller: some Poller, _ mayWait: Bool) throws(IOError) -> Int {
        while true {
            let limit = mayWait ? timeToWait : 0
            let start = attention.contains(.measured) && limit != 0 ? Kernel.nanoseconds : 0
            let count = try poller.wait(milliseconds: limit)
            if start != 0 { asleep &+= Kernel.nanoseconds &- start }
            // Waits again after a signal that no loop watches. A watched one has made the counter ready.
            if count >= 0 || limit == 0 { return count }
        }
    }

    private var timeToWait: Int32 {
        if !attention.isDisjoint(with: [.turnRequested, .stopped, .later]) { return 0 }
        // No event would keep the loop running.
        if !isAlive { return 0 }
        guard let deadline = timers.firstDeadline else { return -1 }
        return milliseconds(from: Kernel.nanoseconds, until: deadline)
    }

    private func deliver(_ event: Event) {
        switch sources.source(of: event.token) {
        case .stream(let stream)?: unsafe stream._withUnsafeGuaranteedRef { $0.becameReady(event.readiness) }
        case let source?: deliverRarely(source)
        // Closed since the kernel was asked, by a callback of this very turn.
        case nil: return
        }
    }

    /// Not inlined into the path of every message: swift.md 7.
    @inline(never)
    private func deliverRarely(_ source: SourceTable.Source) {
        switch source {
        case .stream: return
        case .listener(let listener): unsafe listener._withUnsafeGuaranteedRef { $0.becameReady() }
        case .counter:
            counter.lower()
            signals?.becameReady()
            woken()
        case .mainQueue: mainQueueBecameReady()
        }
    }

    @inline(never)
    private func deliverLater() {
        attention.remove(.later)
        let told = later
        later = []
        for item in told {
            switch item {
            case .closed(let stream): stream.closed()
            case .other(let call): call()
            }
        }
    }

    @inline(never)
    private func fireTimers() {
        let now = Kernel.nanoseconds / 1_000_000
        cachedClock = now
        let limit = timers.startCount
        while let timer = timers.popDue(at: now, startedBefore: limit) { timer.fired() }
        if timers.isEmpty { attention.remove(.timers) }
    }

    package override func stop() {
        attention.insert(.stopped)
    }

    private var isHeld: Bool { !attention.contains(.notHeld) }

    /// A requested turn alone does not keep the loop running: the model holds it if what it has put off is to.
    private var isAlive: Bool {
        isHeld || attention.contains(.later) || timers.referencedCount > 0 || signals?.isReferenced ?? false
    }

    package override func hold(_ isHeld: Bool) {
        if isHeld { attention.remove(.notHeld) } else { attention.insert(.notHeld) }
    }

    package override var turnCount: UInt64 { turns }

    package override var nanosecondsAsleep: UInt64 { asleep }

    /// Read from the clock when first asked for in a turn, which most turns never do.
    package override var cachedMilliseconds: UInt64 {
        if cachedClock == 0 { cachedClock = Kernel.nanoseconds / 1_000_000 }
        return cachedClock
    }

    package override var nanoseconds: UInt64 { Kernel.nanoseconds }

    package override func requestTurn() {
        attention.insert(.turnRequested)
    }

    package override func shutDown() {
        signals?.close()
        // The model has closed every driver before, so no callback of a user follows.
        while !later.isEmpty { deliverLater() }
        sources.deallocate()
        poller.close()
        counter.close()
    }

    // MARK: The drivers that it makes

    package override func makeListener(
        on address: SocketAddress, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        try ReadinessListener(loop: self, address: address, options: options)
    }

    package override func adoptListener(
        _ descriptor: Int32, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        try checkLimit(descriptor)
        let address = try adoptListening(descriptor)
        return try ReadinessListener(loop: self, adopting: descriptor, address, options, file: nil)
    }

    package override func makeStream(
        for address: SocketAddress, from local: SocketAddress?, options: Connection.Options
    ) throws(IOError) -> StreamDriver {
        let socket = try makeSocket(family: address.family.number, about: address)
        apply(options, to: socket.number, isTCP: address.family != .unix)
        if let local { try socket.bind(to: local) }
        return ReadinessStream(loop: self, adopting: socket.detach())
    }

    package override func adoptStream(
        _ descriptor: Int32, options: Connection.Options
    ) throws(IOError) -> (StreamDriver, SocketAddress) {
        try checkLimit(descriptor)
        let peer = try adoptConnected(descriptor)
        apply(options, to: descriptor, isTCP: peer.family != .unix)
        return (ReadinessStream(loop: self, adopting: descriptor), peer)
    }

    package override func takeAccepted(
        _ descriptor: Int32, isUnix: Bool, options: Connection.Options
    ) throws(IOError) -> StreamDriver {
        let socket = Socket(adopting: descriptor)
        try checkLimit(descriptor)
        apply(options, to: descriptor, isTCP: !isUnix)
        return ReadinessStream(loop: self, adopting: socket.detach())
    }

    package override var wake: @Sendable () -> Void {
        counter.raise
    }

    package override func makeTimer() -> TimerDriver {
        ReadinessTimer(loop: self)
    }

    package override func makeSignal(_ number: Int32) throws(IOError) -> SignalDriver {
        if let signals { return try signals.watch(number) }
        let signals = try SignalReceiver(counter: counter)
        self.signals = signals
        return try signals.watch(number)
    }

    package override func watchMainQueue(_ descriptor: Int32?) throws(IOError) {
        if let mainQueue {
            try poller.watchLast(nil)
            leave(mainQueue)
            self.mainQueue = nil
        }
        guard let descriptor else { return }
        try checkLimit(descriptor)
        let token = enter(descriptor, .mainQueue)
        do throws(IOError) {
            try poller.watchLast(token)
        } catch {
            leave(token)
            throw error
        }
        mainQueue = token
    }

    // MARK: What the drivers ask

    /// A new socket that the poller can wait for.
    func makeSocket(family: Int32, about address: SocketAddress) throws(IOError) -> Socket {
        let socket = try Socket(family: family, about: address)
        do throws(IOError) {
            try checkLimit(socket.number)
        } catch {
            throw error.about(address)
        }
        return socket
    }

    private func checkLimit(_ descriptor: Int32) throws(IOError) {
        if descriptor >= poller.descriptorLimit ?? .max { throw .notSelectable(descriptor) }
    }

    /// A timer was started: each turn looks at the timers from now on.
    func timersChanged() {
        attention.insert(.timers)
    }

    /// Gives the events of `descriptor` to `source` from now on.
    func enter(_ descriptor: Int32, _ source: SourceTable.Source) -> Token {
        sources.enter(descriptor, source)
    }

    /// Delivers no event of `token` any more, also none that was fetched already.
    func leave(_ token: Token) {
        sources.leave(token)
    }

    /// Tells `item` in step 4 of a turn: in this turn if that is yet to come. A stream lives until then.
    func tellLater(_ item: Later) {
        later.append(item)
        attention.insert(.later)
    }

    /// Calls `body` in step 4 of a turn.
    func callLater(_ body: @escaping () -> Void) {
        tellLater(.other(body))
    }
}

/// How long to wait, in milliseconds. Rounded up, or a turn would find the timer not due yet. At most what the system
/// calls accept, 24 days.
///
/// `now` is in nanoseconds of the loop's clock, `deadline` in milliseconds.
func milliseconds(from now: UInt64, until deadline: UInt64) -> Int32 {
    let (end, isBeyond) = deadline.multipliedReportingOverflow(by: 1_000_000)
    if isBeyond { return Int32.max }
    if end <= now { return 0 }
    return Int32(clamping: (end - now + 999_999) / 1_000_000)
}
