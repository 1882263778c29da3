@_spi(Engine) public import CallbackModel
internal import Glibc

extension Connection {
    /// Speaks TLS from now on, as the server of an open connection: what STARTTLS of SMTP and the like asks for.
    ///
    /// What was written before goes out in clear. Then the connection waits for the client's handshake as it waits to
    /// open: what is written is held, and nothing is delivered. `onSecured` runs when it is done. The connect time-out
    /// bounds it. If the handshake fails, the connection closes, and `onClose` says why.
    ///
    /// Bytes that a framing has already got behind the request came in clear, perhaps from somebody in between (RFC
    /// 3207, section 6; CVE-2011-0411): then the connection closes with EPROTO. In `onData` they are the caller's to
    /// refuse.
    ///
    /// On a connection that closes or has ended, this does nothing.
    ///
    /// - Precondition: the connection does not speak TLS.
    public func startTLS(_ server: TLS.Server, onSecured: @escaping (Connection) -> Void) {
        assertThread("Connection.startTLS")
        insert(.server(server.settings, nil), onSecured)
    }

    /// The same as the client, after the server has agreed. Its certificate has to be for `serverName`. Throws EINVAL
    /// if that cannot be a host's name or address.
    public func startTLS(
        _ client: TLS.Client, serverName: String, onSecured: @escaping (Connection) -> Void
    ) throws(IOError) {
        assertThread("Connection.startTLS")
        let name = try ServerName(serverName)
        guard insert(.client(client.settings, name), onSecured) else {
            throw IOError(call: "startTLS", errno: ENOMEM)
        }
    }

    /// The same as the server, for protocols whose client may send its handshake right behind its request: `unread` are
    /// the bytes behind the request that `onData` has got already.
    public func startTLS(
        _ server: TLS.Server, unread: Span<UInt8>, onSecured: @escaping (Connection) -> Void
    ) {
        assertThread("Connection.startTLS")
        guard insert(.server(server.settings, nil), onSecured) else { return }
        layer?.keep(unread)
    }

    @discardableResult
    private func insert(_ side: TLSLayer.Side, _ onSecured: ((Connection) -> Void)? = nil) -> Bool {
        guard let layer = TLSLayer(side, on: self) else { return false }
        insert(layer, onSecured: onSecured)
        return true
    }

    /// A client that was accepted.
    func accept(_ server: TLS.Server, _ handshakes: Handshakes) {
        if !insert(.server(server.settings, handshakes)) { reset() }
    }

    /// A connection that this side has begun.
    func speak(_ client: TLS.Client, _ name: ServerName) throws(IOError) {
        guard !insert(.client(client.settings, name)) else { return }
        reset()
        throw .invalid("connect", "no name that the server's certificate could be for")
    }
}
