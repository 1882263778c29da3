internal import Glibc

// The jobs of tasks and actors on the loop.

extension LoopCore {
    /// At most 1,024 jobs run in one go, as many as bodies of a waker.
    static let jobsAtATime = 1_024

    /// How long a loop that is let go waits for its tasks, which it has cancelled. A task that another thread resumes
    /// has this time. A task that no thread resumes makes the end no later than this.
    static let patienceWithTasks = Duration.seconds(1)

    /// The first job has come to a loop that had none. `requestTurn` is not reached by a message.
    func jobsCame() {
        // While it shuts down, the loop looks by itself.
        guard !isShutDown else { return }
        driver.requestTurn()
        holdIfNeeded()
    }

    /// Runs jobs, also those that they bring along, up to the limit. The rest runs in the next turn.
    func runJobs() {
        guard !ownJobs.isEmpty else { return }
        perform(.tasks) { runJobs(atMost: Self.jobsAtATime) }
        if !ownJobs.isEmpty { driver.requestTurn() }
        holdIfNeeded()
    }

    /// Takes over what waits behind the lock, and runs it.
    func runCollectedJobs() {
        ownJobs.isRunning = true
        jobs.collect()
        ownJobs.isRunning = false
        runJobs()
    }

    private func runJobs(atMost limit: Int) {
        ownJobs.isRunning = true
        defer { ownJobs.isRunning = false }
        var left = limit
        while left > 0, let job = ownJobs.removeFirst() {
            left -= 1
            switch job.purpose {
            case .actor: unsafe job.job.runSynchronously(on: executor.asUnownedSerialExecutor())
            case .task: unsafe job.job.runSynchronously(on: taskExecutor.asUnownedTaskExecutor())
            }
        }
    }

    /// Cancels the loop's tasks and runs jobs until none is left. A job that comes later traps.
    func finishJobs() {
        jobs.setRunning(true)
        defer { jobs.setRunning(false) }
        for entry in tasks.values { entry.task.cancel() }
        let end = ContinuousClock.now + Self.patienceWithTasks
        while true {
            jobs.collect()
            runJobs(atMost: Self.jobsAtATime)
            let isLate = ContinuousClock.now >= end
            if !ownJobs.isEmpty {
                require(!isLate, "EventLoop: a task on the executor of a loop that has been let go does not end")
            } else if !isLate, tasks.values.contains(where: \.needsLoop) {
                // Another thread is to resume it.
                _ = poll(nil, 0, 1)
            } else if jobs.close() {
                return
            }
        }
    }

    // MARK: Tasks

    /// A task of `EventLoop.task` or `Connection.task`.
    struct LoopTask {
        let task: Task<Void, Never>
        /// Whether it ends on the loop's thread, by a job.
        let needsLoop: Bool
        let owner: OwnedTasks?
    }

    /// Begins a task that holds the loop until it has ended.
    func beginTask(
        _ isolation: isolated (any Actor)?, owner: OwnedTasks?, _ body: @escaping () async -> Void
    ) -> Task<Void, Never> {
        taskCount += 1
        let number = taskCount
        // A task of the main actor does not run on the loop's executor, so it may outlive the loop. Every other actor
        // whose code runs here lives on that executor.
        let needsLoop = isolation == nil || jobs.isOnLoop && isolation !== MainActor.shared
        let task: Task<Void, Never>
        if isolation == nil {
            // Code of no actor stays on the executor that its task prefers.
            let body = LoopOnly(body)
            task = Task(executorPreference: taskExecutor) { [jobs] in
                await body.opened()
                jobs.taskEnded(number)
            }
        } else {
            task = Task { [jobs] in
                // Makes the task the actor's.
                _ = isolation
                await body()
                jobs.taskEnded(number)
            }
        }
        tasks[number] = LoopTask(task: task, needsLoop: needsLoop, owner: owner)
        owner?.numbers.insert(number)
        holdIfNeeded()
        return task
    }

    func taskEnded(_ number: UInt64) {
        guard let entry = tasks.removeValue(forKey: number) else { return }
        entry.owner?.numbers.remove(number)
        holdIfNeeded()
    }
}

/// The tasks of one connection, which are cancelled when it has closed.
final class OwnedTasks {
    var numbers: Set<UInt64> = []
}
