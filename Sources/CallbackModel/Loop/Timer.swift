internal import Glibc

extension EventLoop {
    /// A callback at a time, once or again and again; made by ``EventLoop/schedule(after:repeating:_:)``.
    public final class Timer {
        private let core: LoopCore
        private let interval: UInt64?
        private var body: (Timer) -> Void
        /// Made when first armed, given back when the timer comes to rest: a resting timer costs no handle.
        private var driver: TimerDriver?
        private var state = State.resting
        /// In milliseconds of the loop's clock; of use while armed.
        private var deadline: UInt64 = 0

        private enum State {
            /// Not armed: never was, has fired for the last time, or was cancelled.
            case resting
            /// The driver will fire at `deadline`.
            case armed
            /// The next turn begins with this timer, unless the ticket is withdrawn.
            case dueNextTurn(DeferredQueue.Ticket)
            /// Its callback is running, and has neither armed nor cancelled it so far.
            case firing
        }

        /// Who ends it, if it is not the loop alone.
        var owner: OwnedTimers?
        private var isAbandoned = false
        /// Whether it is over for good.
        private var isOver: Bool { isAbandoned || owner?.isEnded == true }

        /// Whether it is the loop's own, which counts as no callback.
        private let isInternal: Bool

        init(
            core: LoopCore, interval: Duration?, isInternal: Bool = false, body: @escaping (Timer) -> Void
        ) {
            if let interval {
                require(interval >= .milliseconds(1), "a timer cannot repeat every \(interval): 1 ms at least")
            }
            self.core = core
            self.isInternal = isInternal
            self.interval = interval.map { UInt64($0.wholeMilliseconds) }
            self.body = body
        }

        /// The loop that the timer belongs to.
        ///
        /// - Precondition: the loop has not been let go.
        public var loop: EventLoop { core.requireLoop("Timer.loop") }

        /// Whether the timer will fire.
        public var isArmed: Bool {
            switch state {
            case .armed, .dueNextTurn: true
            case .resting, .firing: false
            }
        }

        /// Whether the timer, while armed, keeps the loop running: true until ``unref()``.
        public var isReferenced: Bool { isCounted }

        private var isCounted = true {
            didSet {
                guard isReferenced != oldValue else { return }
                driver?.setReferenced(isReferenced)
                if case .dueNextTurn(let ticket) = state {
                    core.referenceChanged(of: ticket, isReferenced: isReferenced)
                }
            }
        }

        /// Keeps the loop running while armed; the default.
        public func ref() { isCounted = true }

        /// Lets ``EventLoop/run(_:)`` return although the timer is armed.
        public func unref() { isCounted = false }

        /// Forgets the deadline: the callback will not run, even if it was due in this very turn.
        ///
        /// A timer at rest stays at rest. It can be armed again with ``reschedule(after:)``.
        public func cancel() {
            core.assertThread("Timer.cancel")
            withdraw()
            rest()
        }

        /// The loop is let go, or the connection that the timer belongs to closes: the callback never runs again, and
        /// lets go of what it captured.
        func abandon() {
            cancel()
            isAbandoned = true
            owner = nil
            letGo(of: body) { body = { _ in } }
        }

        /// Fires `delay` from now instead of when it would have; arms a timer that is at rest.
        ///
        /// - Precondition: `delay` is not negative.
        public func reschedule(after delay: Duration) {
            core.assertThread("Timer.reschedule")
            require(delay >= .zero, "a timer cannot fire \(delay) from now: the delay is negative")
            guard !core.isShutDown, !isOver else { return }
            withdraw()
            core.add(self)
            owner?.add(self)
            if delay == .zero {
                driver?.stop()
                deadline = core.driver.nanoseconds / 1_000_000
                state = .dueNextTurn(core.putOff(.timer(self)))
            } else {
                // The clock is read anew: measured from the turn's cached time, a timer set after a long callback
                // would fire early. Rounded up for the same reason.
                let nanoseconds = core.driver.nanoseconds + UInt64(delay.wholeMilliseconds) * 1_000_000
                arm(deadline: (nanoseconds + 999_999) / 1_000_000)
            }
        }

        /// Arms the timer for a moment of the loop's clock, in milliseconds.
        func reschedule(at deadline: UInt64) {
            guard !core.isShutDown, !isOver else { return }
            withdraw()
            core.add(self)
            owner?.add(self)
            arm(deadline: deadline)
        }

        private func arm(deadline: UInt64) {
            self.deadline = deadline
            state = .armed
            let driver = self.driver ?? makeDriver()
            driver.start(deadline: deadline)
        }

        private func makeDriver() -> TimerDriver {
            let driver = core.driver.makeTimer()
            driver.timer = self
            driver.setReferenced(isReferenced)
            self.driver = driver
            return driver
        }

        private func withdraw() {
            if case .dueNextTurn(let ticket) = state { core.withdraw(ticket) }
        }

        private func rest() {
            state = .resting
            driver?.close()
            driver = nil
            core.remove(self)
            owner?.remove(self)
        }

        /// What `TimerDriver.fired` does.
        func fired() {
            guard case .armed = state else { return }
            fire()
        }

        func deferredFired(_ ticket: DeferredQueue.Ticket) {
            guard case .dueNextTurn(ticket) = state else { return }
            fire()
        }

        private func fire() {
            let due = deadline
            state = .firing
            if isInternal {
                body(self)
            } else {
                core.noteEvent()
                core.perform(.timer) { body(self) }
            }
            guard case .firing = state else { return }
            guard let interval else { return rest() }
            let now = core.driver.nanoseconds / 1_000_000
            let next = due + interval
            // If it is late by an interval or more, it skips those: they would all fire at once.
            arm(deadline: next > now ? next : now + interval - (now - due) % interval)
        }
    }
}
