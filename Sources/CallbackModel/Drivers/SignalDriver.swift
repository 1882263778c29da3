/// A watcher of one signal.
@_spi(Engine)
open class SignalDriver {
    /// For subclasses.
    public init() {}

    /// The loop owns the watcher until it is cancelled.
    final unowned var watcher: EventLoop.SignalWatcher?

    // MARK: Asked by the model

    /// Whether the watcher keeps the loop running.
    open func setReferenced(_ referenced: Bool) { unimplemented() }

    /// Stops watching. Nothing follows.
    open func close() { unimplemented() }

    // MARK: Told to the model

    /// The kernel has told of the signal. Called once for each time.
    package final func received() { watcher?.received() }
}
