internal import Glibc

/// What the objects of a loop share: the engine's driver, the open objects, and the work put off to the next turn.
///
/// `EventLoop` owns it, and so does each open object. All of them close when the `EventLoop` is let go, so no cycle
/// outlives the loop.
@safe package final class LoopCore {
    package let driver: LoopDriver
    /// Its number in a group.
    var indexInGroup: Int?
    /// What user code calls this loop.
    weak var loop: EventLoop?
    /// Unchecked (swift.md 1): its methods call no user code.
    @safe @exclusivity(unchecked) var batch = WriteBatch()
    let timeouts = TimeoutQueue()

    /// The connection whose `onData` runs; `nil` while none does.
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

    /// What the loop does.
    private enum State {
        case resting
        /// In `run`.
        case running
        /// In `run`, and `stop()` was called.
        case stopping
        /// Its `EventLoop` is let go.
        case shutDown
    }

    private var state = State.resting
    var isRunning: Bool { state == .running || state == .stopping }
    var isShutDown: Bool { state == .shutDown }
    /// Whether its run is about to end, or it has ended for good.
    var isStopping: Bool { state == .stopping || state == .shutDown }
    /// False while tasks of the main actor have their turn before it runs, or after.
    private var isDriverRunning = false
    /// Of use while it runs; then the thread of the run before, or 0.
    private(set) var runningThread: UInt = 0
    /// The descriptor that tells of the main actor's tasks, while the loop runs on the first thread; otherwise -1.
    var mainQueue: Int32 = -1
    /// What the engine was told of whether something keeps it running.
    private var isHeld = false

    /// Kept alive here, so that users need not hold them, as are `members`.
    private(set) var connections = ConnectionList()
    private var members = LoopMembers()

    private var deferred = DeferredQueue()
    /// How many turns began with it.
    private(set) var requestedTurnCount: UInt64 = 0

    /// What other threads want done here.
    let wakes: WakeQueue
    /// What of it the loop has taken and not run yet.
    var woke = WakeBatch()
    let offloads: Offloads
    let lookUps: LookUps
    /// Jobs of tasks and actors, and those of them that are the loop's own already.
    let jobs: JobQueue
    let ownJobs = OwnJobs()
    let executor: EventLoop.LoopExecutor
    let taskExecutor: EventLoop.LoopTaskExecutor
    /// The tasks under way that hold the loop, by number.
    var tasks: [UInt64: LoopTask] = [:]
    var taskCount: UInt64 = 0
    /// What ``LoopBound`` names.
    var slots: [ObjectIdentifier: AnyLoopSlot] = [:]
    /// Of a module above the model: what the layers of its connections share.
    var layerAttachment: AnyObject?
    /// How many ``EventLoop/Hold`` hold it.
    var holdCount = 0
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
        jobs = JobQueue(own: ownJobs, ring: wakes.ring)
        executor = EventLoop.LoopExecutor(queue: jobs)
        taskExecutor = EventLoop.LoopTaskExecutor(queue: jobs)
        driver.core = self
        ownJobs.core = self
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
        state = .running
        jobs.setRunning(true)
        defer {
            jobs.setRunning(false)
            state = .resting
        }
        if runningThread != Self.currentThread { try changeThread() }
        repeat {
            // A task of the main actor may have stopped the loop already.
            guard state == .running else { return }
            // What was asked while the loop did not run, or in its last turn, does not keep the engine running.
            if hasWoken { putOff(.wakes) }
            try runDriver(mode)
        } while mayGoOn && mode == .untilIdle
    }

    private func runDriver(_ mode: EventLoop.RunMode) throws(IOError) {
        isDriverRunning = true
        defer { isDriverRunning = false }
        try driver.run(mode)
    }

    /// The loop runs on another thread than before, or for the first time.
    private func changeThread() throws(IOError) {
        runningThread = Self.currentThread
        do throws(IOError) {
            try watchMainQueue()
        } catch {
            runningThread = 0
            throw error
        }
    }

    /// Whether there is something to run on for, although the engine has ended its run. The main actor's tasks have
    /// their turn before that is decided, on every engine alike.
    private var mayGoOn: Bool {
        guard state == .running else { return false }
        if hasWoken { return true }
        guard mainQueue >= 0, !isAlive else { return false }
        serveMainQueue()
        return state == .running && isAlive
    }

    /// A child of fork(2) has none of the threads, and shares the kernel's queue of events with its parent.
    func requireOwnProcess(_ call: StaticString) {
        require(
            isInOwnProcess, "\(call) was called in a child of fork(2): the loop belongs to the process that has made it"
        )
    }

    var isInOwnProcess: Bool { getpid() == process }

    /// Throws ECANCELED on a loop of a group that has ended, which a callback may hold.
    func requireOpen(_ call: String) throws(IOError) {
        if isShutDown { throw .invalid(call, "the loop has ended", errno: ECANCELED) }
    }

    /// The loop, for one of its objects.
    func requireLoop(_ property: StaticString) -> EventLoop {
        guard let loop else { trap("\(property): the loop has been let go") }
        return loop
    }

    func stop() {
        guard isRunning else { return }
        state = .stopping
        // A stop that no run of the driver takes note of would end the next one.
        if isDriverRunning { driver.stop() }
    }

    /// Runs user code, then sends what it wrote. Every callback but `onData`'s fast path goes through here.
    func perform(_ kind: EventLoop.CallbackKind, _ callback: () -> Void) {
        // Callbacks run only inside `run`. What is let go with the loop may set one.
        guard !isShutDown else { return }
        let start = isTimed ? driver.nanoseconds : 0
        isPerforming = true
        callback()
        isPerforming = false
        flushBatch()
        // Not `isTimed`, which the callback may have set.
        if start != 0 { noteCallback(kind, since: start) }
    }

    /// Runs user code as `perform` does, or as a part of the callback that runs already.
    func performOnce(_ kind: EventLoop.CallbackKind, _ callback: () -> Void) {
        if isInCallback { callback() } else { perform(kind, callback) }
    }

    /// Runs `body`, and sends what it wrote as after a callback.
    func together(_ body: () -> Void) {
        if isInCallback { return body() }
        isPerforming = true
        body()
        isPerforming = false
        flushBatch()
    }

    /// What `LoopDriver.requestedTurnBegan` does.
    func requestedTurnBegan() {
        let due = deferred.removeAll()
        requestedTurnCount &+= 1
        for (index, item) in due.items.enumerated() {
            switch item {
            case .timer(let timer): timer.deferredFired(DeferredQueue.Ticket(round: due.round, index: index))
            case .connection(let connection): connection.deliverDeferred()
            case .closed(let driver): driver.closed()
            case .closedListener(let driver): driver.closed()
            case .number(let lookUp): lookUp.answer()
            case .wakes: woken()
            case .overload: tellOverload()
            case nil: continue
            }
        }
        runJobs()
        // A callback may have put off more; that waits for the turn after this one.
        if !deferred.isEmpty { driver.requestTurn() }
        holdIfNeeded()
    }

    @discardableResult
    func putOff(_ item: DeferredQueue.Item) -> DeferredQueue.Ticket {
        let ticket = deferred.append(item)
        driver.requestTurn()
        holdIfNeeded()
        return ticket
    }

    /// Takes back what was put off, if the turn it waits for has not begun.
    func withdraw(_ ticket: DeferredQueue.Ticket) {
        deferred.withdraw(ticket)
        holdIfNeeded()
    }

    /// A timer that waits for its turn was referenced, or no longer is.
    func referenceChanged(of ticket: DeferredQueue.Ticket, isReferenced: Bool) {
        deferred.referenceChanged(of: ticket, isReferenced: isReferenced)
        holdIfNeeded()
    }

    func warnOfCallbacks(longerThan threshold: Duration, _ body: @escaping (EventLoop.CallbackTime) -> Void) {
        counts.threshold = threshold
        letGo(of: counts.onSlow) { counts.onSlow = body }
        isTimed = true
    }

    // MARK: What is open

    func add(_ connection: Connection) {
        connections.insert(connection)
        holdIfNeeded()
    }

    func remove(_ connection: Connection) {
        connections.remove(connection)
        holdIfNeeded()
    }

    func add(_ member: some LoopMember) {
        members.insert(member)
        if member.holdsLoop { holdIfNeeded() }
    }

    func remove(_ member: some LoopMember) {
        members.remove(member)
        if member.holdsLoop { holdIfNeeded() }
    }

    /// Whether anything keeps `run` running. The engines do not agree: libuv counts what has closed until it has called
    /// back.
    var isAlive: Bool {
        hasWoken || mustHold || members.keepLoop
    }

    private var mustHold: Bool {
        !connections.isEmpty || members.holdingCount > 0 || deferred.keepingCount > 0 || offloads.isBusy
            || lookUps.isBusy || !ownJobs.isEmpty || !tasks.isEmpty || holdCount > 0
    }

    /// The engine sees no reason to go on in a paused connection, and the loop must not end.
    func holdIfNeeded() {
        let mustHold = mustHold
        // While it shuts down, an engine gives back what this call would use.
        guard mustHold != isHeld, !isShutDown else { return }
        isHeld = mustHold
        driver.hold(mustHold)
    }

    /// Throws EEXIST for a descriptor that an object of this loop owns. Both would close it, the second one after the
    /// kernel has given the number to another object.
    func refuseOwned(_ descriptor: Int32) throws(IOError) {
        var isOwned = members.own(descriptor)
        connections.forEach { if $0.driver.descriptor == descriptor { isOwned = true } }
        guard isOwned, descriptor >= 0 else { return }
        throw .invalid("adopt", "descriptor \(descriptor) is the loop's already", errno: EEXIST)
    }

    /// Closes everything without calling anyone: callbacks run only inside `run`.
    func shutDown() {
        state = .shutDown
        closeWoken()
        members.abandonAll()
        connections.forEach { $0.abandon() }
        timeouts.shutDown()
        pauseWatch = nil
        // Before the engine's driver goes, which they still ask for the time.
        for case .closed(let driver)? in deferred.items { driver.closed() }
        for case .closedListener(let driver)? in deferred.items { driver.closed() }
        letGo(of: (counts.onSlow, overload.callback)) {
            counts.onSlow = nil
            overload.setCallback(nil)
        }
        for case .number(let lookUp)? in deferred.items { lookUp.abandon() }
        _ = deferred.removeAll()
        emptySlots()
        // They may be what a task waits for.
        lookUps.close()
        offloads.close()
        // While there is a clock still, and once everything is closed: what a job calls does nothing.
        finishJobs()
        driver.shutDown()
        assert(connections.isEmpty && members.isEmpty, "the engine has lost a `closed` call")
    }
}
