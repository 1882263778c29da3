internal import COpenSSL
internal import CallbackModel
internal import Synchronization

extension TLS {
    /// How a server speaks TLS: who it is, whom it accepts. It may be used by many listeners, on many loops.
    public final class Server: Sendable {
        private let current: Mutex<ServerSettings>

        /// What new connections get.
        var settings: ServerSettings { current.withLock { $0 } }

        /// A server with one identity. Throws if a file cannot be read, or the key does not fit.
        public convenience init(
            certificateChain: Certificates, privateKey: PrivateKey, options: Options = .init()
        ) throws(ConfigurationError) {
            let identity = Identity(certificateChain: certificateChain, privateKey: privateKey)
            try self.init(identities: [identity], options: options)
        }

        /// A server with several identities. A client that names a host gets the first one whose certificate is valid
        /// for it (RFC 6066, section 3); others get the first of all, unless ``Options/requiresKnownServerName`` is
        /// set. Each handshake may look at all of them: at most 1,000.
        public init(identities: [Identity], options: Options = .init()) throws(ConfigurationError) {
            let keyLog: KeyLog? = if let path = options.keyLogFile { try KeyLog(path) } else { nil }
            let tickets = TicketKeys(lifetime: options.ticketKeyLifetime)
            current = Mutex(try ServerSettings(identities, options, tickets, keyLog))
        }

        /// Replaces certificates and keys. Connections keep what they were made with; new ones get the new ones. If it
        /// throws, nothing has changed. For any thread. Files are read now, those of the clients' trust too.
        ///
        /// Clients go on resuming their sessions, which are made with other keys.
        public func replace(identities: [Identity]) throws(ConfigurationError) {
            let old = settings
            let new = try ServerSettings(identities, old.options, old.tickets, old.keyLog)
            current.withLock { $0 = new }
        }

        /// The same with one identity.
        public func replace(certificateChain: Certificates, privateKey: PrivateKey) throws(ConfigurationError) {
            try replace(identities: [Identity(certificateChain: certificateChain, privateKey: privateKey)])
        }

        /// Makes session tickets with a new key from now on. Tickets of the key before are still accepted until the
        /// next change. For any thread; it happens by itself after ``Options/ticketKeyLifetime``.
        public func rotateTicketKey() { settings.tickets.rotate() }
    }
}

extension TLS.Server {
    /// What a server can choose.
    public struct Options: Sendable, TLSOptions {
        /// The oldest version that is spoken.
        public var minimumVersion = TLS.Version.tls12
        /// The newest one; `nil` for the newest that OpenSSL knows.
        public var maximumVersion: TLS.Version? = nil
        /// Protocols to choose from (ALPN, RFC 7301), the preferred one first: `["h2", "http/1.1"]`. A client that
        /// offers only others is refused; one that offers none is not. Empty: nothing is chosen.
        public var applicationProtocols: [String] = []
        /// Whether clients have to show a certificate.
        public var clientCertificates = ClientCertificates.none
        /// Whether a client that names an unknown host is refused. One that names no host is not.
        public var requiresKnownServerName = false
        /// How long a handshake may take: it is `Connection.Timeouts.connect` of accepted connections.
        public var handshakeTimeout: Duration = .seconds(10)
        /// At most this many handshakes at once for each listener of a loop, from 1. Beyond it, the oldest one is
        /// reset, so that clients that do not go on keep out nobody who does.
        public var maxHandshakes = 1_024
        /// Whether clients get tickets to resume their sessions with (RFC 8446, section 4.6.1).
        public var issuesTickets = true
        /// How long one key makes tickets, from 1 s. They are accepted for as long again.
        public var ticketKeyLifetime: Duration = .seconds(12 * 3600)
        /// Whether FIN without TLS's own end counts as the end, for clients that never send it. Whoever is in between
        /// can then cut what was sent.
        public var acceptsTruncation = false
        /// A file that the secrets of all connections are appended to, as SSLKEYLOGFILE of browsers does. Whoever has
        /// it can read everything. `nil`: secrets are never written, whatever the environment says.
        public var keyLogFile: String? = nil

        /// The defaults above.
        public init() {}

        func validate() throws(TLS.ConfigurationError) {
            guard handshakeTimeout >= .milliseconds(1) else {
                throw .invalid("a handshakeTimeout of \(handshakeTimeout) is less than 1 ms")
            }
            guard maxHandshakes >= 1 else { throw .invalid("maxHandshakes \(maxHandshakes) is less than 1") }
            guard ticketKeyLifetime >= .seconds(1) else {
                throw .invalid("a ticketKeyLifetime of \(ticketKeyLifetime) is less than 1 s")
            }
        }
    }

    /// Whether clients have to show a certificate.
    public enum ClientCertificates: Sendable {
        /// None is asked for.
        case none
        /// One is asked for. It has to be trusted if there is one.
        case requested(TLS.Trust)
        /// Clients without a trusted one are refused.
        case required(TLS.Trust)

        var areRequired: Bool { if case .required = self { true } else { false } }
    }
}

/// What connections of a server are made with: a snapshot, which does not change.
final class ServerSettings: Sendable {
    let options: TLS.Server.Options
    let tickets: TicketKeys
    let keyLog: KeyLog?
    /// One for each identity, the first of all in front.
    private let contexts: [Context]
    private let applicationProtocols: [[UInt8]]

    /// A limit for `identities`: each handshake may look at all.
    private static let mostIdentities = 1_000

    init(
        _ identities: [TLS.Identity], _ options: TLS.Server.Options, _ tickets: TicketKeys, _ keyLog: KeyLog?
    ) throws(TLS.ConfigurationError) {
        guard (1...Self.mostIdentities).contains(identities.count) else {
            throw .invalid("a server has 1 to \(Self.mostIdentities) identities, not \(identities.count)")
        }
        try options.validate()
        _ = try options.wireProtocols()
        self.options = options
        self.tickets = tickets
        self.keyLog = keyLog
        applicationProtocols = options.applicationProtocols.map { Array($0.utf8) }
        var contexts: [Context] = []
        for identity in identities { contexts.append(try Self.makeContext(identity, options, logs: keyLog != nil)) }
        self.contexts = contexts
    }

    private static func makeContext(
        _ identity: TLS.Identity, _ options: TLS.Server.Options, logs: Bool
    ) throws(TLS.ConfigurationError) -> Context {
        let context = try unsafe Context(TLS_server_method(), options)
        let pointer = unsafe context.pointer
        switch options.clientCertificates {
        case .none: break
        case .requested(let trust): try context.verify(trust, mode: SSL_VERIFY_PEER)
        case .required(let trust):
            try context.verify(trust, mode: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT)
        }
        try context.use(identity)
        // Without one a session with a client's certificate could not be resumed (SSL_CTX_set_session_id_context(3)).
        let name = Array("CallbackServer".utf8)
        _ = unsafe SSL_CTX_set_session_id_context(pointer, name, UInt32(name.count))
        if options.issuesTickets {
            unsafe callbackserver_SSL_CTX_set_ticket_callback(pointer, cryptTicket)
        } else {
            unsafe SSL_CTX_set_num_tickets(pointer, 0)
            unsafe SSL_CTX_set_options(pointer, callbackserver_SSL_OP_NO_TICKET())
        }
        unsafe callbackserver_SSL_CTX_set_servername_callback(pointer, answerServerName)
        if !options.applicationProtocols.isEmpty {
            unsafe SSL_CTX_set_alpn_select_cb(pointer, answerOffer, nil)
        }
        if logs { unsafe SSL_CTX_set_keylog_callback(pointer, logKey) }
        return context
    }

    /// An SSL for one connection.
    func makeSSL() -> OpaquePointer? { unsafe SSL_new(contexts[0].pointer) }

    /// Uses the identity for the host that the client has named, if it has.
    func chooseIdentity(_ ssl: OpaquePointer) -> CInt {
        guard let name = unsafe SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) else { return SSL_TLSEXT_ERR_NOACK }
        for (index, context) in contexts.enumerated() {
            let certificate = unsafe SSL_CTX_get0_certificate(context.pointer)
            guard unsafe X509_check_host(certificate, name, 0, hostFlags, nil) == 1 else { continue }
            if index > 0 { _ = unsafe SSL_set_SSL_CTX(ssl, context.pointer) }
            return SSL_TLSEXT_ERR_OK
        }
        // The client is told with `unrecognized_name`.
        return options.requiresKnownServerName ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK
    }

    /// The first of this server's protocols that the client offers: a range of `offered`, which has each name behind
    /// its length.
    func chooseApplicationProtocol(_ offered: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
        for name in applicationProtocols {
            var position = 0
            while position < offered.count {
                let start = position + 1
                let end = unsafe start + Int(offered[position])
                guard end <= offered.count else { return nil }
                if unsafe offered[start..<end].elementsEqual(name) { return start..<end }
                position = end
            }
        }
        return nil
    }
}

private let answerServerName:
    @convention(c) (OpaquePointer?, UnsafeMutablePointer<CInt>?, UnsafeMutableRawPointer?) -> CInt = {
        ssl, alert, _ in
        unsafe alert?.pointee = SSL_AD_UNRECOGNIZED_NAME
        guard let ssl = unsafe ssl, let settings = unsafe TLSLayer.of(ssl)?.serverSettings else {
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        return unsafe settings.chooseIdentity(ssl)
    }

private let answerOffer:
    @convention(c) (
        OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, UnsafeMutablePointer<UInt8>?,
        UnsafePointer<UInt8>?, UInt32, UnsafeMutableRawPointer?
    ) -> CInt = { ssl, chosen, chosenCount, offered, offeredCount, _ in
        guard let ssl = unsafe ssl, let settings = unsafe TLSLayer.of(ssl)?.serverSettings,
            let offered = unsafe offered,
            let range = unsafe settings.chooseApplicationProtocol(
                UnsafeBufferPointer(start: offered, count: Int(offeredCount)))
        else { return SSL_TLSEXT_ERR_ALERT_FATAL }
        // OpenSSL copies it when this returns.
        unsafe chosen?.pointee = offered + range.lowerBound
        unsafe chosenCount?.pointee = UInt8(range.count)
        return SSL_TLSEXT_ERR_OK
    }

let logKey: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?) -> Void = { ssl, line in
    guard let ssl = unsafe ssl, let line = unsafe line else { return }
    unsafe TLSLayer.of(ssl)?.keyLog?.write(line)
}
