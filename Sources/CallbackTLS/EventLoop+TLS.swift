public import CallbackModel

extension EventLoop {
    /// Listens as `listen(on:options:)` does, and speaks TLS with each client.
    ///
    /// `onConnection` runs when a client is accepted, so that limits, counts and a drain see it from then on. The
    /// handshake follows, and then `Connection.onOpen`; before that nothing is delivered, and what is written is held.
    /// If the handshake fails, `Connection.onClose` says why, and `Listener.onHandshakeFailed`. It is bounded by
    /// `TLS.Server.Options.handshakeTimeout`, which is set as the connection's connect time-out.
    public func listen(
        on address: SocketAddress, tls: TLS.Server, options: Listener.Options = .init(),
        onConnection: @escaping (Connection) -> Void
    ) throws(IOError) -> Listener {
        try speaking(tls, onConnection) { accept throws(IOError) in
            try listen(on: address, options: options.with(tls), onConnection: accept)
        }
    }

    /// The same with a listening socket of other code: `listen(adopting:options:)`.
    public func listen(
        adopting descriptor: Int32, tls: TLS.Server, options: Listener.Options = .init(),
        onConnection: @escaping (Connection) -> Void
    ) throws(IOError) -> Listener {
        try speaking(tls, onConnection) { accept throws(IOError) in
            try listen(adopting: descriptor, options: options.with(tls), onConnection: accept)
        }
    }

    private func speaking(
        _ tls: TLS.Server, _ onConnection: @escaping (Connection) -> Void,
        _ listen: (@escaping (Connection) -> Void) throws(IOError) -> Listener
    ) throws(IOError) -> Listener {
        let handshakes = Handshakes(limit: tls.settings.options.maxHandshakes)
        let listener = try listen { connection in
            connection.accept(tls, handshakes)
            onConnection(connection)
        }
        listener.attachment = handshakes
        return listener
    }

    /// Begins a connection as `connect(to:options:)` does, and speaks TLS on it. `onOpen` runs when the handshake is
    /// done; the connect time-out bounds both.
    ///
    /// The server's certificate has to be for `serverName`; without it, for the numeric address. Throws also EINVAL if
    /// there is no name to verify, as for a Unix socket, or one that cannot be a host's.
    public func connect(
        to address: SocketAddress, tls: TLS.Client, serverName: String? = nil, options: ConnectOptions = .init()
    ) throws(IOError) -> Connection {
        let name = if let serverName { try ServerName(serverName) } else { ServerName(address) }
        let connection = try connect(to: address, options: options)
        try connection.speak(tls, name)
        return connection
    }

    /// The same to a host by its name or numeric address, whose addresses are tried in turn: the first that answers
    /// gets the handshake. The server's certificate has to be for `host`, or for `serverName` if that is given.
    public func connect(
        host: String, port: Int, tls: TLS.Client, serverName: String? = nil, options: ConnectOptions = .init()
    ) throws(IOError) -> Connection {
        let name = try ServerName(serverName ?? host)
        let connection = try connect(host: host, port: port, options: options)
        try connection.speak(tls, name)
        return connection
    }
}

extension EventLoop.Group {
    /// Listens on every loop as `listen(on:options:distribution:)` does, and speaks TLS with each client.
    public func listen(
        on address: SocketAddress, tls: TLS.Server, options: Listener.Options = .init(),
        distribution: Distribution = .evenly, _ onLoop: @escaping @Sendable (EventLoop) -> (Connection) -> Void
    ) throws(IOError) -> GroupListener {
        try listen(on: address, options: options.with(tls), distribution: distribution) { loop in
            let onConnection = onLoop(loop)
            let handshakes = Handshakes(limit: tls.settings.options.maxHandshakes)
            return { connection in
                if let listener = connection.listener, listener.attachment == nil { listener.attachment = handshakes }
                connection.accept(tls, handshakes)
                onConnection(connection)
            }
        }
    }
}

extension Listener {
    /// The handshake with a client failed; the connection closes. For a listener that speaks TLS: with a group, the one
    /// that `Connection.listener` gives on its loop.
    public var onHandshakeFailed: ((Listener, TLS.HandshakeFailure) -> Void)? {
        get { (attachment as? Handshakes)?.onFailed }
        set { (attachment as? Handshakes)?.onFailed = newValue }
    }

    /// How many handshakes are under way.
    public var handshakeCount: Int { (attachment as? Handshakes)?.count ?? 0 }
}

extension Listener.Options {
    fileprivate func with(_ tls: TLS.Server) -> Listener.Options {
        var options = self
        options.connection.timeouts.connect = tls.settings.options.handshakeTimeout
        return options
    }
}
