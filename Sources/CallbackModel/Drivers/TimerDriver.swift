/// One timer, in whole milliseconds of the loop's clock.
@_spi(Engine)
open class TimerDriver {
    /// For subclasses.
    public init() {}

    /// The loop owns the timer while it is armed.
    final unowned var timer: EventLoop.Timer?

    // MARK: Asked by the model

    /// Fires once, in the first turn that sees the clock at or after `deadline`; replaces an earlier deadline.
    open func start(deadline: UInt64) { unimplemented() }

    /// Forgets the deadline.
    open func stop() { unimplemented() }

    /// Whether an armed timer keeps the loop running.
    open func setReferenced(_ referenced: Bool) { unimplemented() }

    /// Gives the timer back. Nothing follows.
    open func close() { unimplemented() }

    // MARK: Told to the model

    /// The deadline has passed.
    package final func fired() { timer?.fired() }
}
