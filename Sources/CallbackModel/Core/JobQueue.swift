internal import Synchronization

/// The jobs of tasks and actors that are to run on a loop, in the order in which they came.
///
/// What the loop's own thread asks for while the loop runs goes into a plain array, and costs no lock, no system call
/// and no allocation. What other threads ask for, and what is asked while the loop does not run, waits behind a lock
/// until the loop is woken. A job cannot be refused: the runtime has no one else to run it.
final class JobQueue: Sendable {
    /// What a job belongs to: an actor on the loop's executor, or a task that prefers the loop's thread. The runtime is
    /// told which, or it hops once more.
    enum Purpose {
        case actor
        case task
    }

    struct Job: Sendable {
        let job: UnownedJob
        let purpose: Purpose
    }

    private struct Inbox {
        var jobs: [Job] = []
        /// Tasks of ``EventLoop/task(isolation:_:)`` that have ended elsewhere.
        var ended: [UInt64] = []
        var isClosed = false

        var isEmpty: Bool { jobs.isEmpty && ended.isEmpty }
    }

    private let inbox = Mutex(Inbox())
    /// The thread inside `run`; 0 for none.
    private let thread = Atomic<UInt>(0)
    /// Opened where `isOnLoop` is true, and by `collect`, which the loop calls.
    private let own: LoopOnly<OwnJobs>
    /// Makes the loop look into the inbox. Does nothing once the loop is gone.
    private let ring: @Sendable () -> Void

    init(own: OwnJobs, ring: @escaping @Sendable () -> Void) {
        self.own = LoopOnly(own)
        self.ring = ring
    }

    /// Whether the caller is on the thread inside `run`.
    var isOnLoop: Bool { thread.load(ordering: .relaxed) == LoopCore.currentThread }

    /// The caller's thread is inside `run` from now on, or no longer.
    func setRunning(_ isRunning: Bool) {
        thread.store(isRunning ? LoopCore.currentThread : 0, ordering: .relaxed)
    }

    func enqueue(_ job: UnownedJob, for purpose: Purpose) {
        let job = Job(job: job, purpose: purpose)
        if isOnLoop { return own.opened.append(job) }
        guard add({ $0.jobs.append(job) }) else {
            trap(
                """
                EventLoop.executor: a task or an actor goes on after its loop has been let go; end it first, or keep \
                the loop until it has ended
                """)
        }
    }

    /// A task of the loop has ended, on whatever thread.
    func taskEnded(_ number: UInt64) {
        if isOnLoop { return own.opened.taskEnded(number) }
        _ = add { $0.ended.append(number) }
    }

    /// Returns false once the loop is gone. Wakes the loop once for all that is added before it looks.
    private func add(_ append: (inout Inbox) -> Void) -> Bool {
        let (isAdded, isFirst) = inbox.withLock { inbox in
            guard !inbox.isClosed else { return (false, false) }
            let wasEmpty = inbox.isEmpty
            append(&inbox)
            return (true, wasEmpty)
        }
        if isFirst { ring() }
        return isAdded
    }

    /// Whether something waits behind the lock.
    var hasInbox: Bool { inbox.withLock { !$0.isEmpty } }

    /// Moves what waits behind the lock to the loop's own jobs.
    func collect() {
        let (jobs, ended) = inbox.withLock { inbox in
            let found = (inbox.jobs, inbox.ended)
            inbox.jobs = []
            inbox.ended = []
            return found
        }
        for job in jobs { own.opened.append(job) }
        for number in ended { own.opened.taskEnded(number) }
    }

    /// Traps on jobs that come from now on. Returns false, and does nothing, while something waits.
    func close() -> Bool {
        inbox.withLock { inbox in
            if inbox.isEmpty { inbox.isClosed = true }
            return inbox.isClosed
        }
    }
}

/// Jobs that the loop has and has not run yet. Only the loop's thread sees them.
final class OwnJobs {
    private var waiting: [JobQueue.Job] = []
    /// Emptied once all of it has run, so that its memory serves the next.
    private var taken: [JobQueue.Job] = []
    private var next = 0
    /// Whether jobs run, after which there is a look at whether some are left.
    var isRunning = false
    /// Outlives the use of this, not this itself.
    unowned var core: LoopCore?

    var isEmpty: Bool { next == taken.count && waiting.isEmpty }

    func append(_ job: JobQueue.Job) {
        let isFirst = !isRunning && isEmpty
        waiting.append(job)
        if isFirst { core?.jobsCame() }
    }

    func taskEnded(_ number: UInt64) { core?.taskEnded(number) }

    /// Removes the oldest.
    func removeFirst() -> JobQueue.Job? {
        if next == taken.count {
            guard !waiting.isEmpty else { return nil }
            taken.removeAll(keepingCapacity: true)
            swap(&taken, &waiting)
            next = 0
        }
        defer { next += 1 }
        return taken[next]
    }
}
