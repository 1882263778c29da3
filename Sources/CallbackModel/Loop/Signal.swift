internal import Glibc

extension EventLoop {
    /// A signal, by its number on this system (signal(7)).
    public struct Signal: RawRepresentable, Hashable, Sendable {
        /// The number.
        public let rawValue: Int32

        /// The signal with this number; whether it can be watched shows in ``EventLoop/onSignal(_:_:)``.
        public init(rawValue: Int32) {
            self.rawValue = rawValue
        }

        /// SIGHUP: the terminal has gone, or "read your configuration again".
        public static let hangUp = Signal(rawValue: 1)
        /// SIGINT: Control-C.
        public static let interrupt = Signal(rawValue: 2)
        /// SIGUSR1.
        public static let user1 = Signal(rawValue: 10)
        /// SIGUSR2.
        public static let user2 = Signal(rawValue: 12)
        /// SIGTERM: the polite request to end.
        public static let terminate = Signal(rawValue: 15)
    }

    /// Calls back for one signal until cancelled; made by ``EventLoop/onSignal(_:_:)``.
    public final class SignalWatcher {
        /// What is watched.
        public let signal: Signal

        private let core: LoopCore
        private var body: ((SignalWatcher) -> Void)?
        private var driver: SignalDriver?

        init(
            core: LoopCore, signal: Signal, body: @escaping (SignalWatcher) -> Void
        ) throws(IOError) {
            // Cancelled, it would have its default action again, and a peer that goes away would end the process.
            guard signal.rawValue != SIGPIPE else {
                throw .invalid("sigaction", "signal \(SIGPIPE), SIGPIPE, ends no process that has loops")
            }
            core.assertThread("EventLoop.onSignal")
            try core.requireOpen("EventLoop.onSignal")
            self.core = core
            self.signal = signal
            self.body = body
            let driver = try core.driver.makeSignal(signal.rawValue)
            driver.watcher = self
            self.driver = driver
            core.add(self)
        }

        /// Whether the watcher keeps the loop running: true until ``unref()``.
        public var isReferenced: Bool { isCounted }

        private var isCounted = true {
            didSet { driver?.setReferenced(isReferenced) }
        }

        /// Keeps the loop running; the default.
        public func ref() { isCounted = true }

        /// Lets ``EventLoop/run(_:)`` return although the signal is watched.
        public func unref() { isCounted = false }

        /// Stops watching. When the last watcher of the process has gone, the signal has the action again that it had
        /// before the first (sigaction(2)).
        public func cancel() {
            core.assertThread("SignalWatcher.cancel")
            driver?.close()
            driver = nil
            letGo(of: body) {
                body = nil
                core.remove(self)
            }
        }

        /// What `SignalDriver.received` does.
        func received() {
            guard let body else { return }
            core.noteEvent()
            core.perform(.signal) { body(self) }
        }
    }
}
