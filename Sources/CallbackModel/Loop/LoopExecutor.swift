/// An actor that lives on a loop: its code runs on the loop's thread, inside ``EventLoop/run(_:)``, between callbacks.
///
/// Any thread calls it with `await`, and a callback of the loop with `assumeIsolated`, without waiting.
public protocol LoopActor: Actor {
    /// ``EventLoop/executor`` of the actor's loop. A `let`, since an actor never moves.
    nonisolated var loopExecutor: EventLoop.LoopExecutor { get }
}

extension LoopActor {
    /// The executor of the actor's loop, which ``loopExecutor`` keeps.
    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe loopExecutor.asUnownedSerialExecutor()
    }
}

extension EventLoop {
    /// Runs actors on a loop's thread: see ``LoopActor``.
    ///
    /// Their code runs inside ``EventLoop/run(_:)``, between callbacks, and may be called from callbacks with
    /// `assumeIsolated`, without a hop. At most 1,024 jobs run in one go, then sockets and timers have their turn. What
    /// they write in one go leaves together. From the loop's own thread, a job costs neither a lock nor a system call
    /// nor an allocation. Jobs that wait keep the loop running. Outside of `run` they wait for the next run.
    ///
    /// - Precondition: the loop is still there whenever a job comes. A job that comes later traps.
    public final class LoopExecutor: SerialExecutor {
        private let queue: JobQueue

        init(queue: JobQueue) {
            self.queue = queue
        }

        /// Runs `job` on the loop, later. Any thread may call this.
        public func enqueue(_ job: consuming ExecutorJob) {
            queue.enqueue(UnownedJob(job), for: .actor)
        }

        /// What an actor gives as its `unownedExecutor`, as a ``LoopActor`` does. It keeps no reference: the actor has
        /// to.
        public func asUnownedSerialExecutor() -> UnownedSerialExecutor {
            unsafe UnownedSerialExecutor(ordinary: self)
        }

        /// Traps unless the caller is on the thread that is inside ``EventLoop/run(_:)`` of this loop.
        public func checkIsolated() {
            require(queue.isOnLoop, "EventLoop.executor: the caller is not on the thread that runs the loop")
        }

        /// Whether the caller is on the thread that is inside ``EventLoop/run(_:)`` of this loop.
        public func isIsolatingCurrentContext() -> Bool? {
            queue.isOnLoop
        }
    }

    /// Runs tasks on a loop's thread: `Task(executorPreference: loop.taskExecutor) { … }`. What is isolated to no actor
    /// then runs inside ``EventLoop/run(_:)``, between callbacks, and continuations resume there without a thread of
    /// the global pool. Everything else is as with ``LoopExecutor``.
    ///
    /// ``EventLoop/task(isolation:_:)`` does this for tasks that use what belongs to the loop.
    public final class LoopTaskExecutor: TaskExecutor {
        private let queue: JobQueue

        init(queue: JobQueue) {
            self.queue = queue
        }

        /// Runs `job` on the loop, later. Any thread may call this.
        public func enqueue(_ job: consuming ExecutorJob) {
            queue.enqueue(UnownedJob(job), for: .task)
        }
    }

    /// For an actor that is to live on this loop: ``LoopActor``.
    public var executor: LoopExecutor { core.executor }

    /// What a task prefers to run on this loop.
    public var taskExecutor: LoopTaskExecutor { core.taskExecutor }

    /// Whether the caller is on the thread that is inside ``run(_:)`` of this loop: in a callback, or in a task on its
    /// executor. False outside of `run`, on every thread.
    public var isOnLoop: Bool { core.jobs.isOnLoop }
}
