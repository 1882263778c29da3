internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc
internal import LinuxSockets

/// Which of the kernel's interfaces a loop waits with.
package enum PollerKind: Sendable {
    case epoll, poll, select
}

/// The loop of the reference engines: its turn, and the drivers it makes.
///
/// With the file of one poller it is the engine in small. What happens to a descriptor that is ready is in
/// `ReadinessStream` and `ReadinessListener`; who owns which descriptor is in `SourceTable`.
@safe package final class ReadinessLoop: LoopDriver {
    let poller: any Poller
    // Allocated in `init` once nothing can fail without `deinit`, which gives it back.
    /// One for all connections, since only one is read at a time.
    let readBuffer: UnsafeMutableRawPointer
    let readBufferSize: Int
    /// At most so many reads that fill it are one connection's turn.
    let readsPerTurn: Int
    // Unchecked, since every turn looks at them: no access lasts while a callback or another method runs.
    @safe @exclusivity(unchecked) var timers = TimerQueue()
    @safe @exclusivity(unchecked) private var sources = SourceTable()
    @safe @exclusivity(unchecked) private var closing: [Closing] = []
    @safe @exclusivity(unchecked) private var attention: Attention = .notHeld
    @safe @exclusivity(unchecked) private var isHeld = false
    @safe @exclusivity(unchecked) private var turns: UInt64 = 0
    private var asleep: UInt64 = 0
    /// The clock in milliseconds, once somebody has asked since the turn began or the wait ended; 0 before.
    @safe @exclusivity(unchecked) private var cachedClock: UInt64 = 0

    /// Raised by other threads and signal handlers.
    private let counter: Counter
    /// Made when first used.
    private var signals: SignalReceiver?

    /// What a turn has to look at besides descriptors; empty while there are only messages.
    private struct Attention: OptionSet {
        let rawValue: UInt8
        /// The model has put something off to the next turn.
        static let turnRequested = Attention(rawValue: 1)
        /// `stop()` was called.
        static let stopped = Attention(rawValue: 2)
        /// Something has closed and the model does not know yet.
        static let closing = Attention(rawValue: 4)
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
    enum Closing {
        case stream(ReadinessStream)
        case other(() -> Void)
    }

    /// A loop with nothing in it. Throws EMFILE, ENFILE or ENOMEM: waiting costs it one or two descriptors.
    package init(_ kind: PollerKind, options: EventLoop.Options) throws(IOError) {
        linux_disarm_sigpipe()
        switch kind {
        case .epoll: poller = try EpollPoller()
        case .poll: poller = PollPoller()
        case .select: poller = SelectPoller()
        }
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
        // Told apart once a run, so that no turn calls its poller through the protocol.
        switch poller {
        case let poller as EpollPoller: try run(mode, poller)
        case let poller as PollPoller: try run(mode, poller)
        case let poller as SelectPoller: try run(mode, poller)
        default: trap("a poller that the loop does not know")
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

    /// One turn. Callbacks run in steps 1, 3, 4 and 5, and in each step only for what was there when it began,
    /// so that every turn ends.
    @inline(__always)
    private func turn(_ poller: some Poller, mayWait: Bool) throws(IOError) {
        turns &+= 1
        // 1. What the turn before put off: zero-delay timers, completions, `onDrain`.
        if attention.contains(.turnRequested) { beginTurn() }
        // 2. Wait: for ever if there is nothing but descriptors, else as long as the rest allows.
        let count = try attention.isEmpty && mayWait ? poller.wait(milliseconds: -1) : waitRarely(poller, mayWait)
        cachedClock = 0
        // 3. Input and output, in the order in which the poller tells it.
        var index = 0
        while index < count {
            deliver(poller.event(index))
            index &+= 1
        }
        // 4. What has closed since this step of the turn before.
        if attention.contains(.closing) { deliverClosed() }
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
            // A signal that no loop watches would end `run(.once)`; a watched one has made the counter ready.
            if count >= 0 || limit == 0 { return count }
        }
    }

    private var timeToWait: Int32 {
        if !attention.isDisjoint(with: [.turnRequested, .stopped, .closing]) { return 0 }
        // Without anything that keeps the loop running, there is nothing to wait for.
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

    /// Apart from the path of every message, which it would burden with its registers.
    @inline(never)
    private func deliverRarely(_ source: SourceTable.Source) {
        switch source {
        case .stream: return
        case .listener(let listener): unsafe listener._withUnsafeGuaranteedRef { $0.becameReady() }
        case .counter:
            counter.lower()
            signals?.becameReady()
            woken()
        }
    }

    @inline(never)
    private func deliverClosed() {
        attention.remove(.closing)
        let told = closing
        closing = []
        for item in told {
            switch item {
            case .stream(let stream): stream.closed()
            case .other(let tell): tell()
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

    // MARK: What the model asks

    package override func stop() {
        attention.insert(.stopped)
    }

    /// A requested turn alone keeps nothing: the model holds the loop for what it has put off, if that is to keep it.
    private var isAlive: Bool {
        isHeld || attention.contains(.closing) || timers.referencedCount > 0 || signals?.isReferenced ?? false
    }

    package override func hold(_ isHeld: Bool) {
        self.isHeld = isHeld
        if isHeld { attention.remove(.notHeld) } else { attention.insert(.notHeld) }
    }

    package override var turnCount: UInt64 { turns }

    package override var nanosecondsAsleep: UInt64 { asleep }

    /// Read from the clock when first asked in a turn: most turns never ask.
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
        // The model has closed every driver before; nobody is called back by it any more.
        while !closing.isEmpty { deliverClosed() }
        sources.deallocate()
        poller.close()
        Kernel.close(counter.descriptor)
    }

    package override func makeListener(
        on address: SocketAddress, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        try ReadinessListener(loop: self, address: address, options: options)
    }

    package override func makeTimer() -> TimerDriver {
        ReadinessTimer(loop: self)
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
        let descriptor = Kernel.socket(family: address.family)
        guard descriptor >= 0 else { throw IOError(call: "socket", errno: -descriptor, address: address) }
        do throws(IOError) {
            try checkLimit(descriptor)
            if let local, case let status = Kernel.bind(descriptor, to: local), status < 0 {
                throw IOError(call: "bind", errno: -status, address: local)
            }
        } catch {
            Kernel.close(descriptor)
            throw error
        }
        Kernel.apply(options, to: descriptor, isTCP: address.family != AF_UNIX)
        return ReadinessStream(loop: self, adopting: descriptor)
    }

    package override func adoptStream(
        _ descriptor: Int32, options: Connection.Options
    ) throws(IOError) -> (StreamDriver, SocketAddress) {
        try checkLimit(descriptor)
        let peer = try adoptConnected(descriptor)
        Kernel.apply(options, to: descriptor, isTCP: peer.family != AF_UNIX)
        return (ReadinessStream(loop: self, adopting: descriptor), peer)
    }

    private func checkLimit(_ descriptor: Int32) throws(IOError) {
        if descriptor >= descriptorLimit ?? .max { throw .notSelectable(descriptor) }
    }

    package override func makeSignal(_ number: Int32) throws(IOError) -> SignalDriver {
        if let signals { return try signals.watch(number) }
        let signals = try SignalReceiver(counter: counter)
        self.signals = signals
        return try signals.watch(number)
    }

    package override var wake: @Sendable () -> Void {
        counter.raise
    }

    // MARK: What the drivers ask

    /// The numbers of descriptors that this loop can wait for are below this.
    var descriptorLimit: Int32? { poller.descriptorLimit }

    /// Looks after the timers from now on.
    func timersChanged() {
        attention.insert(.timers)
    }

    /// Gives the events of `descriptor` to `source` from now on.
    func enter(_ descriptor: Int32, _ source: SourceTable.Source) -> Token {
        sources.enter(descriptor, source)
    }

    /// Gives the events of `token` to nobody, also those that were fetched already.
    func leave(_ token: Token) {
        sources.leave(token)
    }

    /// Holds on to what has closed until the model is told, which is never inside the call that closed it.
    func tellClosed(_ item: Closing) {
        closing.append(item)
        attention.insert(.closing)
    }

    /// Calls `body` in step 4 of a turn: in this one if that is yet to come.
    func tellLater(_ body: @escaping () -> Void) {
        tellClosed(.other(body))
    }
}

/// How long to wait, in milliseconds: rounded up, so that no turn is spent on finding a timer not due yet, and cut at
/// what the system calls take, 24 days.
///
/// `now` is in nanoseconds of the loop's clock, `deadline` in milliseconds.
func milliseconds(from now: UInt64, until deadline: UInt64) -> Int32 {
    let (end, isBeyond) = deadline.multipliedReportingOverflow(by: 1_000_000)
    if isBeyond { return Int32.max }
    if end <= now { return 0 }
    return Int32(clamping: (end - now + 999_999) / 1_000_000)
}
