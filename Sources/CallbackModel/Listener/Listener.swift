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

    struct Callbacks {
        var onConnection: ((Connection) -> Void)?
        var onShed: ((Listener, Shed) -> Void)?
        var onError: ((Listener, IOError) -> Void)?
        var onClose: ((Listener) -> Void)?
    }

    private(set) var callbacks: Callbacks

    /// A closed listener keeps no callback, as with a connection.
    private func change(_ change: (inout Callbacks) -> Void) {
        if state != .closed { letGo(of: callbacks) { change(&callbacks) } }
    }

    /// How many connections of this listener are open.
    public internal(set) var connectionCount = 0

    /// Everything set when listening began.
    public let options: Options

    /// Of a module above the model.
    package var attachment: AnyObject?

    let core: LoopCore
    let driver: ListenerDriver
    let connectionOptions: Connection.SharedOptions
    /// `nil` for a listener of one loop.
    let part: GroupPart?
    private(set) var state = State.accepting
    /// The pause after the next failure, in milliseconds.
    var backOff = Listener.shortestBackOff
    var retry: EventLoop.Timer?
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
        /// As `acceptingLast`, and `maxConnections` are open.
        case fullWithLast
        /// By ``close()``; `onClose` follows.
        case closing
        /// `onClose` has run, and all callbacks are released.
        case closed

        var accepts: Bool { self == .accepting || self == .acceptingLast }
    }

    /// `makeDriver` is called once the options are known to be good.
    init(
        core: LoopCore, options: Options, part: GroupPart? = nil, onConnection: @escaping (Connection) -> Void,
        makeDriver: () throws(IOError) -> ListenerDriver
    ) throws(IOError) {
        try options.validate()
        let driver = try makeDriver()
        self.core = core
        self.options = options
        self.driver = driver
        self.part = part
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
        enter(.accepting)
        waitIfFull()
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

    func enter(_ new: State) {
        let wasAccepting = state.accepts
        state = new
        if new != .backingOff {
            retry?.cancel()
            retry = nil
        }
        if new.accepts, !wasAccepting { driver.resume() }
        if !new.accepts, wasAccepting { driver.pause() }
    }

    var isFull: Bool {
        guard let limit = options.maxConnections else { return false }
        if let part { return part.places.isFull }
        return connectionCount >= limit
    }

    // MARK: The end

    /// What `ListenerDriver.closed` does.
    func driverClosed() {
        core.noteEvent()
        if let onClose { core.perform(.close) { onClose(self) } }
        state = .closed
        part?.tell(.closed)
        abandonCallbacks()
        letGoIfDone()
    }

    /// Leaves the loop once it is closed and drained. Until then the loop has to let go of the drain's callback.
    func letGoIfDone() {
        if state == .closed, drain == nil { core.remove(self) }
    }

    /// Closes without calling anyone.
    func abandon() {
        abandonCallbacks()
        letGo(of: drain) { drain = nil }
        close()
        letGoIfDone()
    }

    private func abandonCallbacks() {
        letGo(of: (callbacks, attachment)) {
            callbacks = Callbacks()
            attachment = nil
        }
    }
}
