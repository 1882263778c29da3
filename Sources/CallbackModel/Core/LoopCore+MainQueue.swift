internal import CLinux
internal import Glibc

// The main actor's tasks. `run` blocks the thread that would run them, so it runs them itself.

extension LoopCore {
    /// Watches the main queue if this is the thread that it belongs to; the process's first, as long as `main` has not
    /// returned or suspended. Runs what was queued before: the descriptor does not tell of it.
    func watchMainQueue() throws(IOError) {
        guard linux_is_first_thread() else {
            if linux_is_on_main_queue() { MainActorWarning.write() }
            if mainQueue >= 0 { try driver.watchMainQueue(nil) }
            mainQueue = -1
            return
        }
        let descriptor = linux_main_queue_descriptor()
        if descriptor < 0, errno != ENOSYS { throw IOError(call: "eventfd", errno: errno) }
        guard descriptor >= 0 else { return }
        if mainQueue < 0 { try driver.watchMainQueue(descriptor) }
        mainQueue = descriptor
        serveMainQueue()
    }

    /// What `LoopDriver.mainQueueBecameReady` does. Leaves it to the end of the run if this is the last turn: not every
    /// engine would have another look at descriptors before its end.
    func mainQueueBecameReady() {
        if isAlive { serveMainQueue() }
    }

    /// Runs what is queued now. What that queues waits for the next turn. All that it writes leaves together.
    func serveMainQueue() {
        noteEvent()
        perform(.tasks) { linux_serve_main_queue(mainQueue) }
    }
}

/// Told once a process, since nothing else shows why tasks do not run.
private enum MainActorWarning {
    private static let sentence = """
        EventLoop.run was called on the main actor, but not on the process's first thread: main has suspended before. \
        Tasks of the main actor wait until run returns. Call run before the first await that suspends, or on a thread \
        of the loop's own.\n
        """

    private static let isWritten: Void = {
        var text = sentence
        // In one call: other threads may write between two. A failure has no place to be reported.
        _ = text.withUTF8 { bytes in unsafe Glibc.write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
    }()

    static func write() { isWritten }
}
