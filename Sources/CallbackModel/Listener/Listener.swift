/// A listening socket: it calls back for each client that connects; made by
/// ``EventLoop/listen(on:options:onConnection:)``.
///
/// The loop owns it while it is open; user code may hold it or not.
public final class Listener {
    /// The address the kernel bound; a port of 0 has become the port it chose.
    public let localAddress: SocketAddress

    /// Clients were turned away. Runs once per wake-up in which that happened, with the exact count.
    public var onShed: ((Listener, Shed) -> Void)? {
        get { callbacks.onShed }
        set { change { $0.onShed = newValue } }
    }

    /// Accepting failed for a reason other than limits; it is tried again after a pause of 10 ms, doubling to 1 s.
    public var onError: ((Listener, IOError) -> Void)? {
        get { callbacks.onError }
        set { change { $0.onError = newValue } }
    }

    /// The socket is closed. Runs once, after ``close()``; the callbacks are released then.
    public var onClose: ((Listener) -> Void)? {
        get { callbacks.onClose }
        set { change { $0.onClose = newValue } }
    }

    private struct Callbacks {
        var onConnection: ((Connection) -> Void)?
        var onShed: ((Listener, Shed) -> Void)?
        var onError: ((Listener, IOError) -> Void)?
        var onClose: ((Listener) -> Void)?
    }

    private var callbacks: Callbacks

    /// A closed listener takes no callback, as with a connection.
    private func change(_ change: (inout Callbacks) -> Void) {
        if state != .closed { letGo(of: callbacks) { change(&callbacks) } }
    }

    /// How many connections of this listener are open.
    public private(set) var connectionCount = 0

    /// Everything set when listening began.
    public let options: Options

    let core: LoopCore
    let driver: ListenerDriver
    private let connectionOptions: Connection.SharedOptions
    private(set) var state = State.accepting
    /// The pause after the next failure, in milliseconds.
    private var backOff = Listener.shortestBackOff
    private var retry: EventLoop.Timer?
    var drain: Drain?

    enum State {
        case accepting
        /// By ``pause()``.
        case paused
        /// After a failure; the retry timer ends it.
        case backingOff
        /// `maxConnections` are open, and the rest wait in the backlog.
        case full
        /// A drain has begun, and clients wait that came before it.
        case acceptingLast
        /// So they do, and `maxConnections` are open.
        case fullWithLast
        /// By ``close()``; `onClose` follows.
        case closing
        /// `onClose` has run, and all callbacks are released.
        case closed
    }

    /// 10 ms: short against what a person notices, long against a system call.
    static let shortestBackOff: Int64 = 10
    /// 1 s: a listener whose trouble has gone is back within it.
    static let longestBackOff: Int64 = 1_000
    /// 50 ms: at the descriptor limit clients must be served again within 100 ms of a descriptor being freed.
    static let descriptorBackOff: Int64 = 50

    /// `makeDriver` is called once the options are known to be good.
    init(
        core: LoopCore, options: Options, onConnection: @escaping (Connection) -> Void,
        makeDriver: () throws(IOError) -> ListenerDriver
    ) throws(IOError) {
        try options.validate()
        let driver = try makeDriver()
        self.core = core
        self.options = options
        self.driver = driver
        callbacks = Callbacks(onConnection: onConnection)
        localAddress = driver.localAddress
        connectionOptions = Connection.SharedOptions(options.connection)
        driver.listener = self
        core.add(self)
        driver.resume()
    }

    /// Leaves new clients in the kernel's backlog until ``resume()``.
    public func pause() {
        core.assertThread("Listener.pause")
        guard isOpen else { return }
        enter(.paused)
    }

    /// Accepts again after ``pause()``.
    public func resume() {
        core.assertThread("Listener.resume")
        guard state == .paused else { return }
        enter(isFull && options.beyondMaxConnections == .wait ? .full : .accepting)
    }

    /// Stops listening. Clients in the backlog are reset by the kernel; open connections stay open.
    public func close() {
        core.assertThread("Listener.close")
        guard state != .closing, state != .closed else { return }
        enter(.closing)
        driver.close()
        // Of a drain that waited for clients in the backlog only.
        if connectionCount == 0 { drain?.deadline.reschedule(after: .zero) }
    }

    /// Whether the user has neither closed nor drained it.
    var isOpen: Bool {
        switch state {
        case .accepting, .paused, .backingOff, .full: true
        case .acceptingLast, .fullWithLast, .closing, .closed: false
        }
    }

    private static func accepts(in state: State) -> Bool { state == .accepting || state == .acceptingLast }

    func enter(_ new: State) {
        let wasAccepting = Self.accepts(in: state)
        state = new
        if new != .backingOff {
            retry?.cancel()
            retry = nil
        }
        let isAccepting = Self.accepts(in: new)
        if isAccepting, !wasAccepting { driver.resume() }
        if !isAccepting, wasAccepting { driver.pause() }
    }

    var isFull: Bool {
        guard let limit = options.maxConnections else { return false }
        return connectionCount >= limit
    }

    // MARK: Called by the engine

    /// What to do with the next client that waits.
    package enum Admission {
        case accept
        /// Accept and close it at once.
        case refuse
        case stop
    }

    /// Asked before each accept.
    var admission: Admission {
        guard Self.accepts(in: state) else { return .stop }
        return isFull ? .refuse : .accept
    }

    /// A client, connected to `stream`.
    func accepted(_ stream: StreamDriver, remoteAddress: SocketAddress) {
        guard let onConnection = callbacks.onConnection else { return stream.close(resetting: true) }
        backOff = Self.shortestBackOff
        let connection = Connection(
            core: core, driver: stream, listener: self, remoteAddress: remoteAddress, options: connectionOptions)
        connectionCount += 1
        drain?.lastClients -= 1
        if isFull, options.beyondMaxConnections == .wait { enter(state == .acceptingLast ? .fullWithLast : .full) }
        core.noteEvent()
        core.perform(.connection) { onConnection(connection) }
        connection.begin()
    }

    /// Clients that were accepted and closed at once in this wake-up.
    func shed(_ count: Int, _ cause: Shed.Cause) {
        drain?.lastClients -= count
        guard count > 0, let onShed else { return }
        core.perform(.shed) { onShed(self, Shed(count: count, cause: cause)) }
    }

    /// Accepting failed, and would fail again at once.
    func acceptFailed(_ error: IOError, isDescriptorLimit: Bool = false) {
        // While it drains there is no later to try again.
        if state == .acceptingLast { close() }
        guard state == .accepting else { return }
        let delay = isDescriptorLimit ? Self.descriptorBackOff : backOff
        if !isDescriptorLimit { backOff = min(2 * backOff, Self.longestBackOff) }
        enter(.backingOff)
        retry = EventLoop.Timer(core: core, interval: nil, isInternal: true) { _ in
            if self.state == .backingOff { self.enter(.accepting) }
        }
        retry?.reschedule(after: .milliseconds(delay))
        if let onError { core.perform(.error) { onError(self, error) } }
    }

    /// The socket is closed.
    func driverClosed() {
        core.noteEvent()
        if let onClose { core.perform(.close) { onClose(self) } }
        state = .closed
        abandonCallbacks()
        letGoIfDone()
    }

    /// Closed and drained, it is no longer the loop's: which until then has to let go of what the drain will call.
    func letGoIfDone() {
        if state == .closed, drain == nil { core.remove(self) }
    }

    // MARK: Called by the model

    /// Before the connection's `onClose`.
    func countClose(_ reason: CloseReason, wasReset: Bool) {
        connectionCount -= 1
        if state == .full, !isFull { enter(.accepting) }
        if state == .fullWithLast, !isFull { enter(.acceptingLast) }
        drain?.report.count(reason, wasReset: wasReset)
    }

    /// Closes without calling anyone.
    func abandon() {
        abandonCallbacks()
        letGo(of: drain) { drain = nil }
        close()
        letGoIfDone()
    }

    private func abandonCallbacks() {
        letGo(of: callbacks) { callbacks = Callbacks() }
    }
}

extension Listener {
    /// Clients that were turned away.
    public struct Shed: Hashable, Sendable {
        /// How many, exactly.
        public let count: Int
        /// Why.
        public let cause: Cause

        /// Why clients were turned away.
        public enum Cause: Hashable, Sendable {
            /// The process or the system has no descriptor left (EMFILE, ENFILE in accept(2)).
            case descriptorLimit
            /// ``Options/maxConnections`` are open.
            case maxConnections
            /// The engine cannot wait for the client's descriptor. With select(2): a number of 1,024 or more. With
            /// libuv: the number of an open connection whose descriptor the program has closed itself.
            case engineLimit
        }
    }

    /// What a listener is made with; every number is checked by ``EventLoop/listen(on:options:onConnection:)``.
    public struct Options: Sendable {
        /// How many clients the kernel keeps waiting, from 1; it caps the number at `somaxconn` (listen(2)).
        public var backlog = 511
        /// At most this many connections at a time, from 1; nothing for no limit.
        public var maxConnections: Int? = nil
        /// What happens to clients beyond ``maxConnections``.
        public var beyondMaxConnections = BeyondMaxConnections.wait
        /// Binds an address on which closed connections still linger in TIME_WAIT (SO_REUSEADDR, socket(7)).
        public var reuseAddress = true
        /// Lets several listeners of one user share a port, the kernel spreading the clients (SO_REUSEPORT).
        public var reusePort = false
        /// An IPv6 listener takes IPv6 clients only, not IPv4 ones as `::ffff:a.b.c.d` (IPV6_V6ONLY, ipv6(7)).
        public var ipv6Only = false
        /// At most this many clients are accepted before other events have their turn, from 1 to 1,024.
        public var acceptsPerWakeup = 16
        /// The file mode of a Unix socket, such as `0o600`; nothing for what the umask leaves (unix(7)).
        public var unixMode: UInt32? = nil
        /// Removes the socket file when the listener closes, and one that no live server owns before it binds.
        public var unixCleanUp = true
        /// What each accepted connection starts with.
        public var connection = Connection.Options()

        /// The defaults above.
        public init() {}

        /// What happens to clients beyond the limit.
        public enum BeyondMaxConnections: Hashable, Sendable {
            /// They wait in the kernel's backlog until a connection closes.
            case wait
            /// They are accepted and closed at once, and counted in ``Listener/onShed``.
            case refuse
        }

        func validate() throws(IOError) {
            guard (1...Int(Int32.max)).contains(backlog) else {
                throw .invalid("listen", "backlog \(backlog) is not between 1 and \(Int32.max)")
            }
            guard (1...1_024).contains(acceptsPerWakeup) else {
                throw .invalid("accept", "acceptsPerWakeup \(acceptsPerWakeup) is not between 1 and 1024")
            }
            if let maxConnections, maxConnections < 1 {
                throw .invalid("listen", "maxConnections \(maxConnections) is less than 1")
            }
            if let unixMode, unixMode > 0o777 {
                throw .invalid("chmod", "mode \(String(unixMode, radix: 8)) is more than 777")
            }
            try connection.validate()
        }
    }
}
