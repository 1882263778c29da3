/// One thread's event loop: it waits for sockets, timers and signals, and runs their callbacks, one at a time.
///
/// A loop belongs to the thread that runs it and is not `Sendable`; an object of a loop is used from that
/// loop's callbacks, or from its thread while it does not run. No callback ever runs inside a call that user
/// code makes: what a call causes is delivered later, in the same turn or the next.
///
/// A loop that is let go closes what it still holds. Its callbacks are then released without being called, since
/// callbacks run only inside ``run(_:)``. The loop holds what is open, and what is open holds its callbacks. So a
/// callback of an open connection, a listener, an armed timer or a signal watcher that captures the loop keeps it for
/// ever, with its descriptors: write `[weak loop]` or `[unowned loop]` there.
///
/// The first loop of a process gives SIGPIPE a handler that does nothing, process-wide, so that a peer that goes away
/// never ends the process (signal(7), write(2) EPIPE). Programs that the process starts have the default action again
/// (execve(2)). If the process has set an action for SIGPIPE itself, that stays.
public final class EventLoop {
    package let core: LoopCore

    /// A loop on the engine behind `driver`; users write `EventLoop(engine:options:)`.
    @_spi(Engine)
    public init(driver: LoopDriver, options: Options = .init()) {
        core = LoopCore(driver: driver, options: options)
        core.loop = self
    }

    deinit {
        // A child of fork(2) shares the kernel's queue of events with its parent: what it took out would be the
        // parent's.
        guard core.isInOwnProcess else { return _ = unsafe Unmanaged.passRetained(core) }
        if !core.isShutDown { core.shutDown() }
    }

    /// How long ``EventLoop/run(_:)`` runs.
    public enum RunMode: Sendable {
        /// Until nothing that keeps the loop running is left, or ``EventLoop/stop()``.
        case untilIdle
        /// One turn, which waits for an event if none is there.
        case once
        /// One turn, which does not wait.
        case noWait
    }

    /// Runs callbacks for as long as `mode` says. It can be called again.
    ///
    /// Open listeners and connections, armed timers and signal watchers keep a loop running, the latter two until their
    /// `unref()`. So do tasks of ``task(isolation:_:)``, jobs on ``executor`` and each ``Hold``. Calling `run` from a
    /// callback of the same loop is a programming error and traps. Throws what the engine's wait throws, which does not
    /// happen on a healthy system.
    ///
    /// It blocks its thread until then. On the process's first thread it runs the main actor's tasks meanwhile, between
    /// callbacks: each turn those that were queued when it looked. They do not keep it running. When nothing else does,
    /// it runs what is queued once more, and goes on if that has begun something. What is queued after that waits for
    /// the next run. An `async` main that has suspended has given its first thread away; `run` says so on standard
    /// error, once, and the main actor's tasks wait until it returns. To reach the loop from elsewhere, use ``waker``.
    ///
    /// Throws EMFILE or ENFILE if the first run of a loop on the first thread finds no descriptor to watch these tasks
    /// with.
    public func run(_ mode: RunMode = .untilIdle) throws(IOError) {
        try core.requireOpen("EventLoop.run")
        try core.run(mode)
    }

    /// Ends ``run(_:)`` at the end of the current turn; outside of it, does nothing.
    public func stop() {
        core.assertThread("EventLoop.stop")
        core.stop()
    }

    /// Whether anything keeps ``run(_:)`` running: an open listener or connection, an armed timer, a signal watcher, a
    /// look-up, work of ``offload(_:then:)``, a task of ``task(isolation:_:)``, a job on ``executor``, a ``Hold``, or
    /// what other threads have asked for.
    ///
    /// A timer does not count while its own callback runs.
    public var isAlive: Bool {
        core.isAlive
    }

    /// The monotonic clock in whole milliseconds, as this turn last read it. It is cheap, and the same for callbacks
    /// of one kind in one turn. It stands still while a callback computes.
    public var now: Instant {
        Instant(milliseconds: core.isShutDown ? core.milliseconds : core.driver.cachedMilliseconds)
    }

    /// Binds `address`, listens, and calls `onConnection` for each client, on the loop.
    ///
    /// Set the connection's callbacks there; it is read from once `onConnection` has returned. Throws the
    /// failed call with its errno and the address: EADDRINUSE, EACCES, EADDRNOTAVAIL, … (bind(2), listen(2)).
    public func listen(
        on address: SocketAddress, options: Listener.Options = .init(),
        onConnection: @escaping (Connection) -> Void
    ) throws(IOError) -> Listener {
        core.assertThread("EventLoop.listen")
        try core.requireOpen("EventLoop.listen")
        try address.requireName(for: "bind")
        return try Listener(core: core, options: options, onConnection: onConnection) { () throws(IOError) in
            try core.driver.makeListener(on: address, options: options)
        }
    }

    /// Takes over a listening stream socket: from a parent process, or from systemd (sd_listen_fds(3)).
    ///
    /// Its address, backlog and options stay as they are, and so does a Unix socket's file when it closes. The loop
    /// owns the descriptor from now on, unless this throws: ENOTSOCK, EINVAL for one that is not listening, or EEXIST
    /// for one that this loop has already. SO_LINGER is switched off, since a close would block the loop (socket(7)).
    public func listen(
        adopting descriptor: Int32, options: Listener.Options = .init(),
        onConnection: @escaping (Connection) -> Void
    ) throws(IOError) -> Listener {
        core.assertThread("EventLoop.listen")
        try core.requireOpen("EventLoop.listen")
        return try Listener(core: core, options: options, onConnection: onConnection) { () throws(IOError) in
            try core.refuseOwned(descriptor)
            return try core.driver.adoptListener(descriptor, options: options)
        }
    }

    /// Finds the addresses of `host`, a name or a numeric address, without blocking the loop (getaddrinfo(3)).
    ///
    /// `body` runs once, later, with at least one address, in the order to try them, or with the error: ENOENT for a
    /// name that does not exist, EAGAIN when the resolver did not answer, EMFILE or ENFILE when there was no descriptor
    /// for the question, ENODEV for an IPv6 address with an unknown interface. The loop runs until then, or until
    /// ``LookUp/cancel()``.
    ///
    /// A numeric address is told in the next turn and needs no thread. Names are looked up on at most
    /// ``Options/lookUpThreads`` threads; a name waits while all are busy. Questions for the same name at the same time
    /// share one look-up.
    ///
    /// A host is an IPv4 address of four decimal numbers, an IPv6 address, which may have a zone as in `fe80::1%eth0`,
    /// or a name. A name is ASCII in its final form, at most 253 bytes; each label has 1 to 63 letters, digits, `-` and
    /// `_`, with no hyphen at its ends; one dot may follow the last label, which is no number (RFC 1123, section 2.1;
    /// RFC 2181, section 11). Throws EINVAL for any other host and for a port beyond 0 to 65535, and EAGAIN when no
    /// thread can be made (pthread_create(3)).
    ///
    /// - Precondition: the process is the one that has made the loop. A child of fork(2) has none of its threads.
    @discardableResult
    public func resolve(
        host: String, port: Int, _ body: @escaping (Result<[SocketAddress], IOError>) -> Void
    ) throws(IOError) -> LookUp {
        core.assertThread("EventLoop.resolve")
        core.requireOwnProcess("EventLoop.resolve")
        try core.requireOpen("EventLoop.resolve")
        guard let port = UInt16(exactly: port) else {
            throw .invalid("getaddrinfo", "port \(port) is not between 0 and 65535")
        }
        return try LookUp.begin(core, Host(host), port: port, body)
    }

    /// Calls `body` once after `delay`, then, if `repeating` is given, again at each interval, until cancelled.
    ///
    /// A timer never fires early; it may be late by the time other callbacks take. Delays are rounded up to
    /// whole milliseconds, and beyond 100 years to 100 years. Equal deadlines fire in the order of scheduling. A
    /// zero delay fires in the next turn, never in this one. A repeating timer that was kept waiting skips the
    /// intervals it missed.
    /// The loop owns the timer until it has fired for the last time or was cancelled.
    ///
    /// - Precondition: `delay` is not negative and `repeating` is at least one millisecond.
    @discardableResult
    public func schedule(
        after delay: Duration, repeating: Duration? = nil, _ body: @escaping (Timer) -> Void
    ) -> Timer {
        core.assertThread("EventLoop.schedule")
        let timer = Timer(core: core, interval: repeating, body: body)
        timer.reschedule(after: delay)
        return timer
    }

    /// Calls `body` on the loop each time the process gets `signal`; several of one kind may become one (signal(7)).
    ///
    /// The watcher replaces the signal's default action and keeps the loop running until it is cancelled or
    /// ``SignalWatcher/unref()``. Every loop of the process that watches a signal is told of it, whatever its engine.
    /// Throws EINVAL for a signal that cannot be caught, and ENOSPC when 64 loops watch signals already.
    @discardableResult
    public func onSignal(
        _ signal: Signal, _ body: @escaping (SignalWatcher) -> Void
    ) throws(IOError) -> SignalWatcher {
        try SignalWatcher(core: core, signal: signal, body: body)
    }
}

extension EventLoop {
    /// A moment of the monotonic clock, in whole milliseconds.
    public struct Instant: InstantProtocol, Sendable {
        /// CLOCK_MONOTONIC, in milliseconds.
        public let milliseconds: UInt64

        package init(milliseconds: UInt64) {
            self.milliseconds = milliseconds
        }

        /// The moment `duration` later, rounded up to a whole millisecond.
        public func advanced(by duration: Duration) -> Instant {
            let moved = Int64(clamping: milliseconds).addingReportingOverflow(duration.wholeMilliseconds)
            return Instant(milliseconds: moved.overflow ? UInt64(Int64.max) : UInt64(max(0, moved.partialValue)))
        }

        /// The time from this moment to `other`.
        public func duration(to other: Instant) -> Duration {
            .milliseconds(Int64(clamping: other.milliseconds) - Int64(clamping: milliseconds))
        }

        /// Earlier first.
        public static func < (left: Instant, right: Instant) -> Bool {
            left.milliseconds < right.milliseconds
        }
    }
}

extension Duration {
    /// The longest delay that is told apart from "never": 100 years, so that no sum of times overflows.
    package static let longestMilliseconds: Int64 = 100 * 365 * 24 * 3600 * 1000

    /// Whole milliseconds, rounded up and bounded by `longestMilliseconds` both ways.
    package var wholeMilliseconds: Int64 {
        let limit = Self.longestMilliseconds
        let (seconds, attoseconds) = components
        // `magnitude`, since `abs` traps on the least number of seconds.
        guard seconds.magnitude < limit / 1000 else { return seconds < 0 ? -limit : limit }
        let attosecondsPerMillisecond: Int64 = 1_000_000_000_000_000
        let (whole, rest) = attoseconds.quotientAndRemainder(dividingBy: attosecondsPerMillisecond)
        return seconds * 1000 + whole + (rest > 0 ? 1 : 0)
    }
}
