internal import Glibc

extension LoopCore {
    /// Traps, in debug builds, when code that the compiler could not check calls into a running loop from another
    /// thread (contract clause 17). In release builds it is nothing at all.
    ///
    /// While the loop does not run, any one thread may use it: the one that sets it up need not be the one that runs
    /// it.
    @inline(__always)
    func assertThread(_ call: StaticString) {
        assert(
            isOnItsThread,
            """
            \(call) was called on another thread than the one that runs the loop; \
            only EventLoop.Waker crosses threads (contract clause 17)
            """)
    }

    private var isOnItsThread: Bool { !isRunning || runningThread == Self.currentThread }

    static var currentThread: UInt { pthread_self() }
}
