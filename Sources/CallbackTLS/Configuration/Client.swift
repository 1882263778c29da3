internal import COpenSSL
@_spi(Engine) internal import CallbackModel
internal import Synchronization

extension TLS {
    /// How a client speaks TLS: whom it trusts, who it is. It may be used for many connections, on many loops.
    ///
    /// The server's certificate has to lead to a trusted one and to be valid for the host or address that was asked
    /// for (RFC 9525). No environment variable switches that off; with ``TLS/Trust/system`` the environment may say
    /// where the trusted ones are.
    public final class Client: Sendable {
        let settings: ClientSettings

        /// Throws if a file cannot be read, or the key does not fit.
        public init(
            trust: Trust = .system, identity: Identity? = nil, options: Options = .init()
        ) throws(ConfigurationError) {
            settings = try ClientSettings(trust, identity, options)
        }
    }
}

extension TLS.Client {
    /// What a client can choose.
    public struct Options: Sendable, TLSOptions {
        /// The oldest version that is spoken.
        public var minimumVersion = TLS.Version.tls12
        /// The newest one; `nil` for the newest that OpenSSL knows.
        public var maximumVersion: TLS.Version? = nil
        /// Protocols that are offered (ALPN, RFC 7301), the preferred one first.
        public var applicationProtocols: [String] = []
        /// Whether a later connection to the same server resumes the session of an earlier one, which costs less. One
        /// session is kept for each of the last 1,024 server names.
        public var resumesSessions = true
        /// Whether FIN without TLS's own end counts as the end, for servers that never send it. Whoever is in between
        /// can then cut what was sent.
        public var acceptsTruncation = false
        /// A file that the secrets of all connections are appended to. Whoever has it can read everything. `nil`:
        /// secrets are never written, whatever the environment says.
        public var keyLogFile: String? = nil

        /// The defaults above.
        public init() {}
    }
}

/// What connections of a client are made with.
final class ClientSettings: Sendable {
    let options: TLS.Client.Options
    let keyLog: KeyLog?
    private let context: Context
    let verifies: Bool
    private let sessions = SessionCache()

    init(
        _ trust: TLS.Trust, _ identity: TLS.Identity?, _ options: TLS.Client.Options
    ) throws(TLS.ConfigurationError) {
        self.options = options
        keyLog = if let path = options.keyLogFile { try KeyLog(path) } else { nil }
        context = try unsafe Context(TLS_client_method(), options)
        if case .anyoneWithoutVerification = trust { verifies = false } else { verifies = true }
        try context.verify(trust, mode: SSL_VERIFY_PEER)
        if let identity { try context.use(identity) }
        let wire = try options.wireProtocols()
        let pointer = unsafe context.pointer
        if !wire.isEmpty {
            // 0 means success here (SSL_CTX_set_alpn_protos(3)).
            guard unsafe SSL_CTX_set_alpn_protos(pointer, wire, UInt32(wire.count)) == 0 else {
                throw .refused(ErrorQueue.text())
            }
        }
        if options.resumesSessions {
            unsafe callbackserver_SSL_CTX_set_session_cache_mode(
                pointer, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
            unsafe SSL_CTX_sess_set_new_cb(pointer, keepSession)
        }
        if keyLog != nil { unsafe SSL_CTX_set_keylog_callback(pointer, logKey) }
    }

    /// An SSL for a connection to a server of this name, or numeric address. `nil` if the name cannot be one.
    func makeSSL(_ name: ServerName) -> OpaquePointer? {
        guard let ssl = unsafe SSL_new(context.pointer) else { return nil }
        guard unsafe setName(of: ssl, to: name) else {
            unsafe SSL_free(ssl)
            return nil
        }
        if options.resumesSessions { unsafe sessions.resume(name.key, on: ssl) }
        return unsafe ssl
    }

    private func setName(of ssl: OpaquePointer, to name: ServerName) -> Bool {
        let parameters = unsafe SSL_get0_param(ssl)
        switch name {
        case .host(let host):
            guard unsafe callbackserver_SSL_set_host_name(ssl, host) == 1 else { return false }
            unsafe X509_VERIFY_PARAM_set_hostflags(parameters, hostFlags)
            return unsafe !verifies || X509_VERIFY_PARAM_set1_host(parameters, host, host.utf8.count) == 1
        case .address(let address):
            // A numeric address is no name for the server (RFC 6066, section 3).
            return unsafe !verifies || X509_VERIFY_PARAM_set1_ip(parameters, address, address.count) == 1
        case .unnamed: return !verifies
        }
    }

    func keep(_ session: OpaquePointer, for name: ServerName) {
        unsafe sessions.keep(session, for: name.key)
    }
}

/// A certificate's common name is no host's name (RFC 9525, section 2), and `a*.example.org` none of its wildcards.
let hostFlags = UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)

/// Whom a client wants to speak to.
enum ServerName {
    case host(String)
    /// The bytes of an IPv4 or IPv6 address.
    case address([UInt8])
    /// A Unix socket, for instance.
    case unnamed

    /// What sessions are kept by.
    var key: String {
        switch self {
        case .host(let name): "host \(name)"
        case .address(let bytes): "address \(bytes)"
        case .unnamed: ""
        }
    }

    /// What a user gave: a name, perhaps with the dot of the root, or a numeric address. Throws EINVAL for any other.
    init(_ host: String) throws(IOError) {
        switch try Host(host) {
        case .number(let answer): self = .address(try answer.get().bytes)
        case .name(let name): self = .host(name.hasSuffix(".") ? String(name.dropLast()) : name)
        }
    }

    init(_ address: SocketAddress) {
        self = address.port == nil ? .unnamed : .address(address.bytes)
    }
}

private let keepSession: @convention(c) (OpaquePointer?, OpaquePointer?) -> CInt = { ssl, session in
    guard let ssl = unsafe ssl, let session = unsafe session, let layer = unsafe TLSLayer.of(ssl) else { return 0 }
    guard case .client(let settings, let name) = layer.side else { return 0 }
    unsafe settings.keep(session, for: name)
    // 1: the reference is ours now (SSL_CTX_sess_set_new_cb(3)).
    return 1
}
