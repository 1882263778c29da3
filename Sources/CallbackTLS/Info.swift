internal import COpenSSL
public import CallbackModel

extension TLS {
    /// What the two sides have agreed on, and who the peer is.
    public struct Info: Sendable {
        /// The version that is spoken.
        public let version: Version
        /// The cipher suite, by its name in RFC 8446 or in OpenSSL: `TLS_AES_256_GCM_SHA384`.
        public let cipher: String
        /// The protocol that was chosen by ALPN, if one was.
        public let applicationProtocol: String?
        /// The host that the client has asked for.
        public let serverName: String?
        /// Whether an earlier session was resumed.
        public let isResumed: Bool
        /// The certificates that the peer has shown, its own in front. A resumed session may have only that one. They
        /// were verified, unless trust is ``Trust/anyoneWithoutVerification``.
        public let peerCertificates: [Certificate]
    }

    /// A peer's certificate.
    public struct Certificate: Hashable, Sendable {
        /// All of it, in DER (RFC 5280), for a library that reads certificates.
        public let der: [UInt8]
        /// Whom it is for, in the form of RFC 2253: `CN=example.org`.
        public let subject: String
        /// Who has signed it, in the same form.
        public let issuer: String
    }
}

extension Connection {
    /// What the handshake has led to; `nil` before it is done, without TLS, and once the connection has closed.
    ///
    /// Made anew each time: keep it if it is needed often.
    public var tls: TLS.Info? { (layer as? TLSLayer)?.info }

    /// Why the handshake failed. For `onClose`; `nil` if it did not.
    public var handshakeFailure: TLS.HandshakeFailure.Cause? { (layer as? TLSLayer)?.failure }
}

extension TLS.Info {
    init(_ ssl: OpaquePointer) {
        version = unsafe TLS.Version(rawValue: Int(SSL_version(ssl))) ?? .tls12
        cipher = unsafe SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)).map { unsafe String(cString: $0) } ?? ""
        serverName = unsafe SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { unsafe String(cString: $0) }
        isResumed = unsafe SSL_session_reused(ssl) == 1
        var name: UnsafePointer<UInt8>? = nil
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(ssl, &name, &count)
        applicationProtocol = unsafe name.map {
            unsafe String(decoding: UnsafeBufferPointer(start: $0, count: Int(count)), as: UTF8.self)
        }
        peerCertificates = unsafe Self.peerCertificates(of: ssl)
    }

    private static func peerCertificates(of ssl: OpaquePointer) -> [TLS.Certificate] {
        var certificates: [TLS.Certificate] = []
        if let own = unsafe SSL_get1_peer_certificate(ssl) {
            unsafe certificates.append(TLS.Certificate(own))
            unsafe X509_free(own)
        }
        // For a client the first of the chain is the peer's own, for a server it is not in it.
        guard let chain = unsafe SSL_get_peer_cert_chain(ssl) else { return certificates }
        let start: CInt = unsafe SSL_is_server(ssl) == 1 ? 0 : 1
        let count = unsafe callbackserver_sk_X509_num(chain)
        for index in start..<max(start, count) {
            if let certificate = unsafe callbackserver_sk_X509_value(chain, index) {
                unsafe certificates.append(TLS.Certificate(certificate))
            }
        }
        return certificates
    }
}

extension TLS.Certificate {
    init(_ certificate: OpaquePointer) {
        var start: UnsafeMutablePointer<UInt8>? = nil
        let count = unsafe i2d_X509(certificate, &start)
        der = unsafe count > 0 ? Array(UnsafeBufferPointer(start: start, count: Int(count))) : []
        unsafe CRYPTO_free(start, nil, 0)
        subject = unsafe Self.text(of: X509_get_subject_name(certificate))
        issuer = unsafe Self.text(of: X509_get_issuer_name(certificate))
    }

    private static func text(of name: OpaquePointer?) -> String {
        guard let name = unsafe name, let bio = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe BIO_free(bio) }
        unsafe X509_NAME_print_ex(bio, name, 0, callbackserver_XN_FLAG_RFC2253())
        var bytes = [UInt8](repeating: 0, count: unsafe BIO_ctrl_pending(bio))
        let count = unsafe BIO_read(bio, &bytes, CInt(bytes.count))
        return String(decoding: bytes.prefix(Int(max(0, count))), as: UTF8.self)
    }
}
