/// A watcher of one signal.
@_spi(Engine)
open class SignalDriver {
    /// For subclasses.
    public init() {}

    /// Who is told; the loop owns the watcher until it is cancelled.
    package final unowned var watcher: EventLoop.SignalWatcher?

    /// Whether the watcher keeps the loop running.
    open func setReferenced(_ referenced: Bool) { unimplemented() }

    /// Stops watching. Nothing follows.
    open func close() { unimplemented() }
}
