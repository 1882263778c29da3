extension EventLoop {
    /// The way from other threads into the loop. ``LoopBound`` and the executors, which may cross threads too, use it.
    ///
    /// It does not keep the loop running; what was asked for does, until it has run.
    public struct Waker: Sendable {
        let queue: WakeQueue

        /// Runs `body` on the loop: later, at most once, in the order of the calls of each thread. Any thread may
        /// call this, also from a callback of the loop, but no signal handler. It waits for no other thread.
        ///
        /// Returns whether the loop has accepted `body`: false once the loop is gone. True is no promise that it runs.
        /// A loop that is let go first, or is never run again, releases what waits without a call. Let `body` itself
        /// report that it has run.
        ///
        /// The number of bodies that wait has no limit. At most 1,024 run in one go, then sockets and timers have their
        /// turn. A thread that asks faster than the loop runs has to wait for reports, or memory grows.
        @discardableResult
        public func execute(_ body: @escaping @Sendable () -> Void) -> Bool {
            queue.append(body)
        }
    }

    /// What lets other threads run code on this loop.
    public var waker: Waker { Waker(queue: core.wakes) }
}
