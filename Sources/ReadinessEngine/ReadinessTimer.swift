@_spi(Engine) internal import CallbackModel

/// A timer: its place in the loop's `TimerQueue`.
@safe final class ReadinessTimer: TimerDriver {
    private unowned let loop: ReadinessLoop
    private(set) var deadline: UInt64 = 0
    /// Among equal deadlines, later starts come later (contract clause 13).
    var order: UInt64 = 0
    /// Its place in the heap; -1 while it is not armed.
    var index = -1
    private(set) var isReferenced = true

    init(loop: ReadinessLoop) {
        self.loop = loop
    }

    override func start(deadline: UInt64) {
        stop()
        self.deadline = deadline
        loop.timers.insert(self)
        loop.timersChanged()
    }

    override func stop() {
        if index >= 0 { loop.timers.remove(self) }
    }

    override func setReferenced(_ referenced: Bool) {
        guard referenced != isReferenced else { return }
        isReferenced = referenced
        if index >= 0 { loop.timers.referencedCount += referenced ? 1 : -1 }
    }

    override func close() {
        stop()
    }
}
