internal import COpenSSL
internal import CallbackModel

/// An SSL_CTX: what connections of one configuration share. It is not changed once connections are made of it, and its
/// count of references is atomic, so it may be used from several threads (Vendor-notes/openssl.md).
final class Context: Sendable {
    private let address: UInt

    var pointer: OpaquePointer { unsafe OpaquePointer(bitPattern: address).unsafelyUnwrapped }

    init(_ method: OpaquePointer?, _ options: some TLSOptions) throws(TLS.ConfigurationError) {
        ErrorQueue.clear()
        guard let made = unsafe SSL_CTX_new(method) else { throw .refused(ErrorQueue.text()) }
        address = UInt(bitPattern: made)
        unsafe SSL_CTX_set_options(made, callbackserver_options())
        unsafe callbackserver_SSL_CTX_set_read_ahead(made)
        unsafe callbackserver_SSL_CTX_set_mode(made, Int(SSL_MODE_RELEASE_BUFFERS))
        unsafe callbackserver_SSL_CTX_set_session_cache_mode(made, Int(SSL_SESS_CACHE_OFF))
        if let most = options.maximumVersion, most < options.minimumVersion {
            throw .invalid("maximumVersion \(most) is less than minimumVersion, \(options.minimumVersion)")
        }
        guard
            unsafe callbackserver_SSL_CTX_set_min_proto_version(made, CInt(options.minimumVersion.rawValue)) == 1,
            unsafe callbackserver_SSL_CTX_set_max_proto_version(made, CInt(options.maximumVersion?.rawValue ?? 0)) == 1
        else { throw .refused(ErrorQueue.text()) }
    }

    deinit {
        unsafe SSL_CTX_free(pointer)
    }

    // MARK: Identity

    /// Uses the certificates and the key of `identity`.
    func use(_ identity: TLS.Identity) throws(TLS.ConfigurationError) {
        let chain = identity.certificateChain.source
        var isFirst = true
        try unsafe forEachCertificate(in: chain) { certificate throws(TLS.ConfigurationError) in
            ErrorQueue.clear()
            let status =
                unsafe isFirst
                ? SSL_CTX_use_certificate(pointer, certificate)
                : callbackserver_SSL_CTX_add1_chain_cert(pointer, certificate)
            isFirst = false
            guard status == 1 else { throw .refused("\(chain.name): \(ErrorQueue.text())") }
        }
        try usePrivateKey(identity.privateKey)
    }

    private func usePrivateKey(_ privateKey: TLS.PrivateKey) throws(TLS.ConfigurationError) {
        let source = privateKey.source
        let pem = try source.read()
        ErrorQueue.clear()
        var passphrase = PassphraseQuestion(privateKey.passphrase)
        let key = unsafe withMemoryBIO(pem) { bio in
            unsafe withUnsafeMutablePointer(to: &passphrase) { unsafe PEM_read_bio_PrivateKey(bio, nil, answer, $0) }
        }
        guard let key = unsafe key else {
            ErrorQueue.clear()
            throw passphrase.wasAsked ? .encryptedPrivateKey(source.name) : .noPrivateKey(source.name)
        }
        defer { unsafe EVP_PKEY_free(key) }
        // Asked before it is used: its own error says nothing of the file.
        guard unsafe X509_check_private_key(SSL_CTX_get0_certificate(pointer), key) == 1 else {
            ErrorQueue.clear()
            throw .keyDoesNotFit(source.name)
        }
        guard unsafe SSL_CTX_use_PrivateKey(pointer, key) == 1 else {
            throw .refused("\(source.name): \(ErrorQueue.text())")
        }
    }

    // MARK: Trust

    /// Verifies the peer's certificate against `trust`. `mode` says whether there has to be one.
    func verify(_ trust: TLS.Trust, mode: CInt) throws(TLS.ConfigurationError) {
        ErrorQueue.clear()
        switch trust {
        // Asked for all the same: without SSL_VERIFY_PEER a server asks for none.
        case .anyoneWithoutVerification: return unsafe SSL_CTX_set_verify(pointer, mode, acceptAnyone)
        case .system:
            guard unsafe SSL_CTX_set_default_verify_paths(pointer) == 1 else { throw .refused(ErrorQueue.text()) }
        case .certificates(let certificates):
            let store = unsafe SSL_CTX_get_cert_store(pointer)
            try unsafe forEachCertificate(in: certificates.source) { certificate throws(TLS.ConfigurationError) in
                guard unsafe X509_STORE_add_cert(store, certificate) == 1 else {
                    throw .refused("\(certificates.source.name): \(ErrorQueue.text())")
                }
                // Named to clients, which choose their certificate by it (RFC 8446, section 4.2.4).
                if mode & SSL_VERIFY_PEER != 0 { _ = unsafe SSL_CTX_add_client_CA(pointer, certificate) }
            }
        }
        unsafe SSL_CTX_set_verify(pointer, mode, nil)
    }
}

/// What SSL_CTX_set_verify(3) calls for each certificate: 1 accepts it, whatever was found.
private let acceptAnyone: @convention(c) (CInt, OpaquePointer?) -> CInt = { _, _ in 1 }

/// Calls `body` with each certificate of `source`: at least one.
private func forEachCertificate(
    in source: Source, _ body: (OpaquePointer) throws(TLS.ConfigurationError) -> Void
) throws(TLS.ConfigurationError) {
    let pem = try source.read()
    var failure: TLS.ConfigurationError?
    var count = 0
    ErrorQueue.clear()
    unsafe withMemoryBIO(pem) { bio in
        while failure == nil, let certificate = unsafe PEM_read_bio_X509(bio, nil, answer, nil) {
            defer { unsafe X509_free(certificate) }
            count += 1
            do throws(TLS.ConfigurationError) {
                try unsafe body(certificate)
            } catch {
                failure = error
            }
        }
    }
    // After the last one there is no further begin line; anything else is a damaged certificate.
    let isDamaged = ErrorQueue.hasOther(than: PEM_R_NO_START_LINE)
    ErrorQueue.clear()
    if let failure { throw failure }
    guard count > 0, !isDamaged else { throw .noCertificate(source.name) }
}

private func withMemoryBIO<Result>(_ bytes: [UInt8], _ body: (OpaquePointer?) -> Result) -> Result {
    unsafe bytes.withUnsafeBytes { bytes in
        let bio = unsafe BIO_new_mem_buf(bytes.baseAddress, CInt(bytes.count))
        defer { unsafe BIO_free(bio) }
        return unsafe body(bio)
    }
}

/// What OpenSSL is told when it wants a passphrase. Without an answer of ours it would ask at the terminal.
private struct PassphraseQuestion {
    let passphrase: [UInt8]
    let isKnown: Bool
    var wasAsked = false

    init(_ passphrase: String?) {
        self.passphrase = Array((passphrase ?? "").utf8)
        isKnown = passphrase != nil
    }
}

/// pem_password_cb(3). -1: there is none.
private let answer: @convention(c) (UnsafeMutablePointer<CChar>?, CInt, CInt, UnsafeMutableRawPointer?) -> CInt = {
    buffer, size, _, question in
    guard let question = unsafe question?.assumingMemoryBound(to: PassphraseQuestion.self), let buffer = unsafe buffer
    else { return -1 }
    unsafe question.pointee.wasAsked = true
    let passphrase = unsafe question.pointee.passphrase
    guard unsafe question.pointee.isKnown, passphrase.count <= Int(size) else { return -1 }
    for (index, byte) in passphrase.enumerated() { unsafe buffer[index] = CChar(bitPattern: byte) }
    return CInt(passphrase.count)
}
