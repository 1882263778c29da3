extension EventLoop {
    /// Begins a task on the loop, where it may use what belongs to the loop. It holds the loop until it has ended.
    ///
    /// `body` begins in the next turn and runs inside ``EventLoop/run(_:)``, between callbacks, as does what it calls
    /// that is isolated to no actor. While it waits, callbacks run: look at what you use again after each `await`. When
    /// it is called from code of an actor, such as the main actor, `body` is that actor's and runs there.
    ///
    /// A loop that is let go cancels its tasks and waits for them, for at most a second. A task that continues on the
    /// loop after that traps.
    @discardableResult
    public func task(
        isolation: isolated (any Actor)? = #isolation, _ body: @escaping () async -> Void
    ) -> Task<Void, Never> {
        core.assertThread("EventLoop.task")
        core.requireOwnProcess("EventLoop.task")
        return core.beginTask(isolation, owner: nil, body)
    }

    /// Keeps ``run(_:)`` running although nothing is open, until the answer of another thread has come, for instance.
    public func hold() -> Hold {
        core.assertThread("EventLoop.hold")
        return Hold(core: core)
    }

    /// What keeps a loop running.
    public final class Hold {
        private let core: LoopCore
        /// Whether it still holds the loop.
        public private(set) var isHeld = true

        init(core: LoopCore) {
            self.core = core
            core.holdCount += 1
            core.holdIfNeeded()
        }

        deinit { release() }

        /// Holds the loop no longer. Later calls do nothing. Letting go of the object does the same.
        public func release() {
            guard isHeld else { return }
            core.assertThread("EventLoop.Hold.release")
            isHeld = false
            core.holdCount -= 1
            core.holdIfNeeded()
        }
    }
}

extension Connection {
    /// Begins a task on the connection's loop, as ``EventLoop/task(isolation:_:)`` does. It belongs to the connection:
    /// it is cancelled when ``onClose`` has run.
    ///
    /// A cancelled task goes on until it looks (`Task.isCancelled`), and what it then calls on the connection does
    /// nothing. It must look before it uses ``loop``, which may have been let go. Until it has ended it holds the loop.
    /// On a closed connection `body` is not called, and the task has ended.
    @discardableResult
    public func task(
        isolation: isolated (any Actor)? = #isolation, _ body: @escaping () async -> Void
    ) -> Task<Void, Never> {
        core.assertThread("Connection.task")
        guard lifecycle != .closed, !core.isShutDown else { return Task.immediate {} }
        core.requireOwnProcess("Connection.task")
        let rare = needRare()
        let tasks = rare.tasks ?? OwnedTasks()
        rare.tasks = tasks
        return core.beginTask(isolation, owner: tasks, body)
    }

    /// Cancels the tasks of the connection, which has closed.
    func cancelTasks() {
        guard let tasks = rare?.tasks, !tasks.numbers.isEmpty else { return }
        // A cancellation handler is the user's code.
        core.together {
            for number in tasks.numbers { core.tasks[number]?.task.cancel() }
        }
    }
}
