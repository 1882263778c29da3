// What an engine provides. The model decides what happens (policy: water marks, batching, time-outs, limits); a driver
// makes it happen with system calls. Each driver has two parts: what the model asks, which an engine overrides, and
// what is told to the model, by methods that an engine calls on its own driver.
//
// Base classes, not protocols: swift.md 2. Open to engines alone, by `@_spi(Engine) import CallbackModel`: swift.md 15.

/// One event loop of an engine: a kernel queue of events, a clock, and the turn that delivers them.
@_spi(Engine)
open class LoopDriver {
    /// For subclasses.
    public init() {}

    /// Outlives the driver.
    final unowned var core: LoopCore?

    // MARK: Asked by the model

    /// Runs turns as ``EventLoop/run(_:)`` says. Not called while it runs.
    open func run(_ mode: EventLoop.RunMode) throws(IOError) { unimplemented() }

    /// Ends the run after the turn under way.
    open func stop() { unimplemented() }

    /// Keeps the loop running while `isHeld`: a listener or a connection is open, also if it waits for no event, a
    /// timer is due in the next turn, or other threads work for the loop.
    open func hold(_ isHeld: Bool) { unimplemented() }

    /// How many turns there were, if the options asked for metrics.
    open var turnCount: UInt64 { unimplemented() }

    /// How long the loop has waited for events, if the options asked for metrics.
    open var nanosecondsAsleep: UInt64 { unimplemented() }

    /// CLOCK_MONOTONIC in milliseconds, as it was when this turn last looked.
    open var cachedMilliseconds: UInt64 { unimplemented() }

    /// CLOCK_MONOTONIC in nanoseconds, now.
    open var nanoseconds: UInt64 { unimplemented() }

    /// Asks for one more turn, which must not sleep and begins with `requestedTurnBegan()`, if there is one:
    /// the request by itself does not keep the loop running.
    open func requestTurn() { unimplemented() }

    /// Gives back everything. The model has closed every driver before; their `closed` calls come from here.
    open func shutDown() { unimplemented() }

    /// A bound, listening, non-blocking socket; accepts only after `resume()`.
    open func makeListener(
        on address: SocketAddress, options: Listener.Options
    ) throws(IOError) -> ListenerDriver { unimplemented() }

    /// A listening socket that other code has bound. It is the driver's now, unless this throws.
    open func adoptListener(
        _ descriptor: Int32, options: Listener.Options
    ) throws(IOError) -> ListenerDriver { unimplemented() }

    /// A socket that can be connected to `address`, bound to `local` if that is given.
    open func makeStream(
        for address: SocketAddress, from local: SocketAddress?, options: Connection.Options
    ) throws(IOError) -> StreamDriver { unimplemented() }

    /// A stream socket that other code has connected, and its peer's address. It is the driver's now, unless this
    /// throws.
    open func adoptStream(
        _ descriptor: Int32, options: Connection.Options
    ) throws(IOError) -> (StreamDriver, SocketAddress) { unimplemented() }

    /// A client that a listener of this engine has accepted, on this loop or another one. It is the driver's now; if
    /// this throws, it is closed.
    open func takeAccepted(
        _ descriptor: Int32, isUnix: Bool, options: Connection.Options
    ) throws(IOError) -> StreamDriver { unimplemented() }

    /// Makes the loop call `woken()` soon; the one thing here that any thread may call, until `shutDown`.
    open var wake: @Sendable () -> Void { unimplemented() }

    /// A timer at rest.
    open func makeTimer() -> TimerDriver { unimplemented() }

    /// A watcher of one signal, already watching.
    open func makeSignal(_ number: Int32) throws(IOError) -> SignalDriver { unimplemented() }

    /// Watches libdispatch's main queue from now on, and calls `mainQueueBecameReady()` when its descriptor is
    /// readable; with `nil`, no more. It keeps the loop running in neither case. It is looked at last, so that a
    /// message costs no more for it. Does nothing in an engine that waits for no descriptor.
    open func watchMainQueue(_ descriptor: Int32?) throws(IOError) {}

    // MARK: Told to the model

    /// A turn has begun that `requestTurn` asked for.
    package final func requestedTurnBegan() { core?.requestedTurnBegan() }

    /// `wake` was called, some time ago.
    package final func woken() { core?.woken() }

    /// The descriptor of `watchMainQueue` is readable. No callback runs.
    package final func mainQueueBecameReady() { core?.mainQueueBecameReady() }
}

/// A driver that lacks a method is a mistake in this package, never in a user's.
func unimplemented(_ method: StaticString = #function) -> Never {
    trap("\(method): an engine must override this")
}
