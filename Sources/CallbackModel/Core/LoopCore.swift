internal import Glibc

/// What the objects of a loop share: the engine's driver, who is alive, and the work put off to the next turn.
///
/// `EventLoop` owns it, and so does every object of the loop; the objects are let go when they close, or all at
/// once when the `EventLoop` is let go, so no cycle outlives the loop.
@safe package final class LoopCore {
    package let driver: LoopDriver
    /// Unchecked: its methods call nobody who could come back to it.
    @safe @exclusivity(unchecked) var batch = WriteBatch()
    let timeouts = TimeoutQueue()

    /// Whose `onData` runs; nothing while none does.
    @safe @exclusivity(unchecked) var delivering: Unmanaged<Connection>? = nil
    /// Whether another callback runs.
    private var isPerforming = false

    /// Whether user code is on the stack, called by this loop: its small writes then wait for the callback's end.
    var isInCallback: Bool { unsafe isPerforming || delivering != nil }

    func isDelivering(to connection: Connection) -> Bool {
        unsafe delivering?.toOpaque() == Unmanaged.passUnretained(connection).toOpaque()
    }

    /// Whether callbacks are measured, for metrics or for the warning about slow ones.
    @safe @exclusivity(unchecked) private(set) var isTimed = false
    var counts = LoopCounts()
    /// Whether ``EventLoop/metrics`` tells what is counted.
    let collectsMetrics: Bool

    /// Bytes in the queues of all connections, and what they may be together.
    var queuedByteCount = 0
    let maxQueuedBytes: Int
    var overload = Overload()
    /// Armed while a connection does not read, or the loop is overloaded.
    var pauseWatch: EventLoop.Timer?

    private(set) var isRunning = false
    /// Of use while it runs.
    private(set) var runningThread: UInt = 0
    /// Whether `stop()` was called in this run.
    private var isStopped = false
    private(set) var isShutDown = false
    private var isHeld = false

    /// Open objects, kept alive here so that users need not hold them.
    private(set) var connections = ConnectionList()
    private var listeners: [ObjectIdentifier: Listener] = [:]
    private var timers: [ObjectIdentifier: EventLoop.Timer] = [:]
    private var watchers: [ObjectIdentifier: EventLoop.SignalWatcher] = [:]

    /// What the next turn begins with, in order; nothing where something was withdrawn. Bounded by the open
    /// objects, each of which is in it once at most.
    private var deferred: [Deferred?] = []
    /// How many timers among them keep the loop running; its connections are held already.
    private var deferredReferences = 0
    /// Timers that are armed and keep the loop running.
    var referencedTimers = 0
    private var round: UInt64 = 0

    enum Deferred {
        case timer(EventLoop.Timer)
        case connection(Connection)
        /// A driver of the model's own that has closed.
        case closed(StreamDriver)
        /// A number that was to be resolved.
        case number(EventLoop.LookUp)
        /// What other threads asked for before the loop ran.
        case wakes
        /// What there is to tell of an overload.
        case overload

        var keepsLoop: Bool {
            switch self {
            case .timer(let timer): timer.isReferenced
            case .connection, .closed: false
            case .number, .wakes, .overload: true
            }
        }
    }

    /// A place in the queue of what was put off.
    struct Ticket: Equatable {
        fileprivate let round: UInt64
        fileprivate let index: Int
    }

    /// What other threads want done here.
    let wakes: WakeQueue
    /// What of it the loop has taken and not run yet.
    var woke = WakeBatch()
    let offloads: Offloads
    let lookUps: LookUps
    /// The process that has made the loop.
    private let process = getpid()

    init(driver: LoopDriver, options: EventLoop.Options) {
        self.driver = driver
        maxQueuedBytes = options.maxQueuedBytes
        collectsMetrics = options.collectsMetrics
        isTimed = options.collectsMetrics
        wakes = WakeQueue(wake: driver.wake)
        offloads = Offloads(ring: wakes.ring)
        lookUps = LookUps(width: options.lookUpThreads, ring: wakes.ring)
        driver.core = self
    }

    deinit {
        batch.deallocate()
    }

    /// CLOCK_MONOTONIC in whole milliseconds, now. Time-outs count from it: the time that the turn has read is older
    /// by all that callbacks have taken since.
    var milliseconds: UInt64 { driver.nanoseconds / 1_000_000 }

    // MARK: Running

    func run(_ mode: EventLoop.RunMode) throws(IOError) {
        assertThread("EventLoop.run")
        requireOwnProcess("EventLoop.run")
        require(!isRunning, "EventLoop.run was called from inside a callback of the same loop")
        isRunning = true
        runningThread = Self.currentThread
        isStopped = false
        defer { isRunning = false }
        repeat {
            // Nothing else may keep the loop running for what was asked while it did not run, or in its last turn.
            if hasWoken { putOff(.wakes) }
            try driver.run(mode)
        } while mode == .untilIdle && !isStopped && hasWoken
    }

    /// A child of fork(2) has none of the threads, and shares the kernel's queue of events with its parent.
    func requireOwnProcess(_ call: StaticString) {
        require(
            isInOwnProcess, "\(call) was called in a child of fork(2): the loop belongs to the process that has made it"
        )
    }

    var isInOwnProcess: Bool { getpid() == process }

    func stop() {
        guard isRunning else { return }
        isStopped = true
        driver.stop()
    }

    /// Runs user code, then sends what it wrote. Every callback but `onData`'s fast path goes through here.
    func perform(_ kind: EventLoop.CallbackKind, _ callback: () -> Void) {
        // Callbacks run only inside `run`; what is let go with the loop may have set one as it went.
        guard !isShutDown else { return }
        let start = isTimed ? driver.nanoseconds : 0
        isPerforming = true
        callback()
        isPerforming = false
        flushBatch()
        // Not `isTimed`, which the callback may have set.
        if start != 0 { noteCallback(kind, since: start) }
    }

    /// Does what `body` writes as one callback would, in as few system calls as it can.
    func together(_ body: () -> Void) {
        if isInCallback { return body() }
        isPerforming = true
        body()
        isPerforming = false
        flushBatch()
    }

    /// Sends what is batched, each connection's run in one piece. Runs no callback.
    @inline(__always)
    func flushBatch() {
        if batch.isEmpty { return }
        // Nearly always one connection has written, the one whose callback it was.
        if batch.hasMore { return flushAll() }
        let run = batch.removeSingle()
        // A span of a buffer makes no check of the count, which is positive.
        let bytes = unsafe UnsafeBufferPointer(start: run.start, count: run.count)
        unsafe run.owner._withUnsafeGuaranteedRef { $0.handOver(unsafe Span(_unsafeElements: bytes)) }
    }

    /// Not inlined: its registers would be saved for every message.
    @inline(never)
    func flushAll() {
        while let run = batch.removeAny() { send(run) }
        batch.tidy()
    }

    /// Sends what is batched of `connection`, before something that must follow it. Runs no callback.
    func flushBatch(of connection: Connection) {
        guard let run = batch.remove(of: connection) else { return }
        send(run)
        batch.tidy()
    }

    private func send(_ run: WriteBatch.Run) {
        // Held, whatever the sending does to the batch.
        let kept = batch.isKept(run) ? batch.kept : nil
        unsafe run.owner._withUnsafeGuaranteedRef { connection in
            if let kept {
                connection.handOver(keeping: kept)
            } else {
                connection.handOver(unsafe Span(_unsafeStart: run.start, count: run.count))
            }
        }
    }

    /// Forgets what is batched of `connection`, which closes.
    func dropBatch(of connection: Connection) {
        if batch.remove(of: connection) != nil { batch.tidy() }
    }

    /// What `LoopDriver.requestedTurnBegan` does.
    func requestedTurnBegan() {
        let due = deferred
        let dueRound = round
        deferred = []
        deferredReferences = 0
        round += 1
        for (index, item) in due.enumerated() {
            switch item {
            case .timer(let timer): timer.deferredFired(Ticket(round: dueRound, index: index))
            case .connection(let connection): connection.deliverDeferred()
            case .closed(let driver): driver.closed()
            case .number(let lookUp): lookUp.answer()
            case .wakes: woken()
            case .overload: tellOverload()
            case nil: continue
            }
        }
        // A callback may have put off more; that waits for the turn after this one.
        if !deferred.isEmpty { driver.requestTurn() }
        holdIfNeeded()
    }

    @discardableResult
    func putOff(_ item: Deferred) -> Ticket {
        deferred.append(item)
        driver.requestTurn()
        if item.keepsLoop { deferredReferencesChange(by: 1) }
        return Ticket(round: round, index: deferred.count - 1)
    }

    /// Takes back what was put off, if the turn it waits for has not begun.
    func withdraw(_ ticket: Ticket) {
        guard ticket.round == round else { return }
        if deferred[ticket.index]?.keepsLoop ?? false { deferredReferencesChange(by: -1) }
        deferred[ticket.index] = nil
        while let last = deferred.last, last == nil { deferred.removeLast() }
    }

    /// A timer that waits for its turn was referenced, or no longer is.
    func referenceChanged(of ticket: Ticket, isReferenced: Bool) {
        guard ticket.round == round else { return }
        deferredReferencesChange(by: isReferenced ? 1 : -1)
    }

    private func deferredReferencesChange(by change: Int) {
        deferredReferences += change
        holdIfNeeded()
    }

    func warnOfCallbacks(longerThan threshold: Duration, _ body: @escaping (EventLoop.CallbackTime) -> Void) {
        counts.threshold = threshold
        letGo(of: counts.onSlow) { counts.onSlow = body }
        isTimed = true
    }

    // MARK: Who is alive

    func add(_ connection: Connection) {
        connections.insert(connection)
        holdIfNeeded()
    }

    func remove(_ connection: Connection) {
        connections.remove(connection)
        holdIfNeeded()
    }

    func add(_ listener: Listener) {
        listeners[ObjectIdentifier(listener)] = listener
        holdIfNeeded()
    }

    func remove(_ listener: Listener) {
        listeners[ObjectIdentifier(listener)] = nil
        holdIfNeeded()
    }

    /// Whether anything keeps `run` running. Asked of the model, so that all engines tell the same: libuv for one
    /// counts what has closed until it has called back.
    var isAlive: Bool {
        hasWoken || mustHold || referencedTimers > 0 || watchers.values.contains { $0.isReferenced }
    }

    private var mustHold: Bool {
        !connections.isEmpty || !listeners.isEmpty || deferredReferences > 0 || offloads.isBusy || lookUps.isBusy
    }

    /// A connection that waits for nothing, being paused, is still open, and so the loop must not end.
    func holdIfNeeded() {
        let mustHold = mustHold
        // While it shuts down, an engine gives back what this call would reach for.
        guard mustHold != isHeld, !isShutDown else { return }
        isHeld = mustHold
        driver.hold(mustHold)
    }

    func add(_ timer: EventLoop.Timer) { timers[ObjectIdentifier(timer)] = timer }
    func remove(_ timer: EventLoop.Timer) { timers[ObjectIdentifier(timer)] = nil }
    func add(_ watcher: EventLoop.SignalWatcher) { watchers[ObjectIdentifier(watcher)] = watcher }
    func remove(_ watcher: EventLoop.SignalWatcher) { watchers[ObjectIdentifier(watcher)] = nil }

    /// Throws EEXIST for a descriptor that an object of this loop owns: the second to close it would close another's,
    /// once the kernel has handed out the number again.
    func refuseOwned(_ descriptor: Int32) throws(IOError) {
        var isOwned = listeners.values.contains { $0.driver.descriptor == descriptor }
        connections.forEach { if $0.driver.descriptor == descriptor { isOwned = true } }
        guard isOwned, descriptor >= 0 else { return }
        throw .invalid("adopt", "descriptor \(descriptor) is the loop's already", errno: EEXIST)
    }

    /// Closes everything without calling anyone: callbacks run only inside `run`.
    func shutDown() {
        isShutDown = true
        closeWoken()
        for timer in timers.values { timer.abandon() }
        for watcher in watchers.values { watcher.cancel() }
        for listener in listeners.values { listener.abandon() }
        connections.forEach { $0.abandon() }
        timeouts.shutDown()
        pauseWatch = nil
        // Before the engine's driver goes, which they still ask for the time.
        for case .closed(let driver)? in deferred { driver.closed() }
        letGo(of: (counts.onSlow, overload.callback)) {
            counts.onSlow = nil
            overload.setCallback(nil)
        }
        for case .number(let lookUp)? in deferred { lookUp.abandon() }
        deferred = []
        lookUps.close()
        offloads.close()
        driver.shutDown()
        assert(connections.isEmpty && listeners.isEmpty, "the engine has lost a `closed` call")
    }
}
