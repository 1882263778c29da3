// Connections that this side begins.

extension EventLoop {
    /// Begins a connection to `address`. `onOpen` follows, or else `onClose` with the reason. A refusal is
    /// ``CloseReason/failed(_:)`` with ECONNREFUSED and the address (connect(2)).
    ///
    /// Set the callbacks at once, before the loop runs on. What is written before `onOpen` is queued and then sent, or
    /// fails as a whole. A Unix listener whose backlog is full is tried again, after 1 ms doubling to 100 ms, until the
    /// connect time-out; meanwhile there is no descriptor. Throws when there can be no socket: EMFILE, EAFNOSUPPORT,
    /// bind(2)'s errors for ``ConnectOptions/localAddress``, EINVAL for options out of bounds.
    public func connect(
        to address: SocketAddress, options: ConnectOptions = .init()
    ) throws(IOError) -> Connection {
        core.assertThread("EventLoop.connect")
        try core.requireOpen("EventLoop.connect")
        try address.requireName(for: "connect")
        try options.validate()
        let driver = try core.driver.makeStream(
            for: address, from: options.localAddress, options: options.connection)
        let file = SocketFile(bound: options.localAddress)
        let outcome = driver.connect(to: address)
        if HostRace.isBacklogFull(outcome, address) {
            file?.remove()
            driver.close(resetting: false)
            return waitForBacklog(of: address, options)
        }
        let connection = Connection(
            core: core, driver: driver, listener: nil, remoteAddress: address,
            options: Connection.SharedOptions(options.connection))
        if let file { connection.needRare().boundFile = file }
        connection.connectReturned(outcome)
        return connection
    }

    private func waitForBacklog(of address: SocketAddress, _ options: ConnectOptions) -> Connection {
        let race = HostRace(core: core, options: options)
        let connection = Connection(
            core: core, driver: HostStream(core: core, race: race), listener: nil, remoteAddress: address,
            options: Connection.SharedOptions(options.connection))
        race.begin(for: connection)
        race.waitForBacklog(of: address)
        return connection
    }

    /// Begins a connection to a host by its name or numeric address: resolves it, then tries its addresses, each
    /// with a head start on the next, and keeps the first that answers (RFC 8305, "Happy Eyeballs").
    ///
    /// As with ``connect(to:options:)``, `onOpen` or `onClose` follows; if no address answers, the reason is the
    /// last one's failure. A connection that is closed before the resolver has answered withdraws its question. Throws
    /// what ``resolve(host:port:_:)`` throws, and EINVAL for options out of bounds.
    public func connect(
        host: String, port: Int, options: ConnectOptions = .init()
    ) throws(IOError) -> Connection {
        core.assertThread("EventLoop.connect")
        try options.validate()
        let race = HostRace(core: core, options: options)
        race.lookUp = try resolve(host: host, port: port) { race.resolved($0) }
        let connection = Connection(
            core: core, driver: HostStream(core: core, race: race), listener: nil, remoteAddress: .unnamed,
            options: Connection.SharedOptions(options.connection))
        race.begin(for: connection)
        return connection
    }

    /// Takes over a stream socket that is connected already: from a parent process, or accepted elsewhere.
    ///
    /// The loop owns the descriptor from now on, unless this throws: ENOTSOCK, ENOTCONN, EINVAL for a socket that is no
    /// stream, or EEXIST for a descriptor that this loop has already. SO_LINGER is switched off, since a close would
    /// block the loop (socket(7)). `onOpen` does not run; reading begins in the next turn.
    ///
    /// The look for EEXIST passes all open connections of the loop, at some 40 ns for each. Other loops are not looked
    /// at: two that adopt one descriptor would both close it.
    public func adopt(
        connected descriptor: Int32, options: Connection.Options = .init()
    ) throws(IOError) -> Connection {
        core.assertThread("EventLoop.adopt")
        try core.requireOpen("EventLoop.adopt")
        try options.validate()
        try core.refuseOwned(descriptor)
        let (driver, address) = try core.driver.adoptStream(descriptor, options: options)
        let connection = Connection(
            core: core, driver: driver, listener: nil, remoteAddress: address,
            options: Connection.SharedOptions(options))
        connection.tellOpened()
        return connection
    }
}

extension Connection {
    /// The time that the connection takes to open counts from now.
    func waitForOpening() {
        move(to: .connecting)
        // The turn's clock stands while the loop does not run, so the time-out would be early by it.
        openedAt = core.driver.nanoseconds / 1_000_000
    }

    /// The driver has been asked to connect, with this outcome.
    func connectReturned(_ outcome: ConnectOutcome) {
        waitForOpening()
        switch outcome {
        case .inProgress: timeoutsChanged()
        case .connected: tellOpened()
        // No callback runs here: `onClose` comes when the driver has closed.
        case .failed(let error): connectFailed(error)
        }
    }

    /// Opens in the next turn, since no callback runs inside the user's call.
    func tellOpened() {
        watch.insert(.opened)
        putOffDelivery()
    }

    /// What `StreamDriver.opened` does.
    func opened() {
        if lifecycle == .connecting || lifecycle == .flushing, isConnectedToItself {
            let error = IOError(call: "connect", errno: IOError.refused, address: remoteAddress)
            // Without RST the port would be taken for a minute, also from a server that wants it (TIME_WAIT).
            return connectFailed(error, resetting: true)
        }
        switch lifecycle {
        case .connecting, .starting: break
        // `close()` waited for this. If all bytes of a host's connection left in one call, no driver tells of it.
        case .flushing:
            if layer?.driverOpened() != true { closeIfFlushed() }
            return
        // A write to an adopted connection has met a reset: what came before it is still read.
        case .readingOut: return begin()
        case .open, .closing, .closed: return
        }
        if let rare {
            if let race = rare.race { return race.won(by: self) }
            if let layer = rare.layer, layer.driverOpened() { return }
        }
        let wasConnecting = lifecycle == .connecting
        // Not read from before the user's first callback has returned, as with an accepted one.
        move(to: .starting)
        openedAt = core.milliseconds
        lastReadAt = openedAt
        lastWriteAt = openedAt
        if wasConnecting, let onOpen = rare?.layer?.onSecured ?? rare?.onOpen { core.perform(.open) { onOpen(self) } }
        begin()
        if isOwedSomething { putOffDelivery() }
    }

    /// Whether the socket is connected to itself. The kernel may choose the peer's port for this end as well. If no
    /// server listens there, TCP connects the two (RFC 9293, section 3.5, simultaneous open).
    private var isConnectedToItself: Bool {
        remoteAddress.port != nil && driver.localAddress == remoteAddress
    }

    /// What `StreamDriver.connectFailed` does.
    func connectFailed(_ error: IOError, resetting: Bool = false) {
        // Without an address yet, the failure is the resolver's, which names the host.
        let isAddressed = error.address != nil || remoteAddress == .unnamed
        let failed = CloseReason.failed(isAddressed ? error : error.about(remoteAddress))
        if cause == nil || cause == .localClose { cause = failed }
        closeDriver(resetting: resetting)
    }

    /// Gives up the driver of an attempt that has opened. No callback follows.
    func surrenderDriver() -> StreamDriver {
        core.timeouts.remove(self)
        cause = .localClose
        release()
        return driver
    }
}
