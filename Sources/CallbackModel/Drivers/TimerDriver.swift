/// One timer, in whole milliseconds of the loop's clock.
@_spi(Engine)
open class TimerDriver {
    /// For subclasses.
    public init() {}

    /// Who is told; the loop owns the timer while it is armed.
    package final unowned var timer: EventLoop.Timer?

    /// Fires once, in the first turn that sees the clock at or after `deadline`; replaces an earlier deadline.
    open func start(deadline: UInt64) { unimplemented() }

    /// Forgets the deadline.
    open func stop() { unimplemented() }

    /// Whether an armed timer keeps the loop running.
    open func setReferenced(_ referenced: Bool) { unimplemented() }

    /// Gives the timer back. Nothing follows.
    open func close() { unimplemented() }
}
