internal import COpenSSL
internal import CallbackTLS

/// The identity that both sides use, made for one form, and the contexts that peers make their connections of.
///
/// It is read only once it is made, and OpenSSL counts references atomically.
final class Witness: Sendable {
    /// The certificate and its key, for the side under test.
    let certificate: String
    let privateKey: String
    private let clients: UInt
    private let servers: UInt

    init(_ version: TLS.Version) throws(TLS.ConfigurationError) {
        guard let key = unsafe makeKey() else { throw .refused("the witness has no key") }
        defer { unsafe EVP_PKEY_free(key) }
        guard let made = unsafe makeCertificate(key) else { throw .refused("the witness has no certificate") }
        defer { unsafe X509_free(made) }
        certificate = unsafe text { unsafe PEM_write_bio_X509($0, made) }
        privateKey = unsafe text { unsafe PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) }
        guard let client = unsafe makeContext(TLS_client_method(), version),
            let server = unsafe makeContext(TLS_server_method(), version)
        else { throw .refused("the witness has no context") }
        clients = UInt(bitPattern: client)
        servers = UInt(bitPattern: server)
        unsafe SSL_CTX_set_verify(client, SSL_VERIFY_PEER, nil)
        guard unsafe X509_STORE_add_cert(SSL_CTX_get_cert_store(client), made) == 1,
            unsafe SSL_CTX_use_certificate(server, made) == 1, unsafe SSL_CTX_use_PrivateKey(server, key) == 1
        else { throw .refused("the witness cannot use its certificate") }
    }

    deinit {
        unsafe SSL_CTX_free(OpaquePointer(bitPattern: clients))
        unsafe SSL_CTX_free(OpaquePointer(bitPattern: servers))
    }

    /// A connection of a peer; `nil` without memory.
    func makeSSL(isServer: Bool) -> OpaquePointer? {
        guard let ssl = unsafe SSL_new(OpaquePointer(bitPattern: isServer ? servers : clients)) else { return nil }
        if isServer {
            unsafe SSL_set_accept_state(ssl)
        } else {
            unsafe SSL_set_connect_state(ssl)
            _ = unsafe callbackserver_SSL_set_host_name(ssl, serverName)
            unsafe SSL_set1_host(ssl, serverName)
        }
        return unsafe ssl
    }
}

private func makeContext(_ method: OpaquePointer?, _ version: TLS.Version) -> OpaquePointer? {
    guard let context = unsafe SSL_CTX_new(method) else { return nil }
    _ = unsafe callbackserver_SSL_CTX_set_max_proto_version(context, CInt(version.rawValue))
    // As send(2): some of what is given is taken, and the rest may be given at another place.
    let mode = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    unsafe callbackserver_SSL_CTX_set_mode(context, Int(mode))
    return unsafe context
}

/// Where Unix sockets have no name to verify.
let serverName = "localhost"

/// A key on the curve P-256.
private func makeKey() -> OpaquePointer? {
    guard let making = unsafe EVP_PKEY_CTX_new_from_name(nil, "EC", nil) else { return nil }
    defer { unsafe EVP_PKEY_CTX_free(making) }
    var key: OpaquePointer?
    guard unsafe EVP_PKEY_keygen_init(making) == 1, unsafe EVP_PKEY_CTX_set_group_name(making, "P-256") == 1,
        unsafe EVP_PKEY_generate(making, &key) == 1
    else { return nil }
    return unsafe key
}

/// A certificate for this machine that `key` has signed itself, valid for an hour.
private func makeCertificate(_ key: OpaquePointer) -> OpaquePointer? {
    guard let certificate = unsafe X509_new(), let subject = unsafe X509_get_subject_name(certificate) else {
        return nil
    }
    unsafe X509_set_version(certificate, 2)
    unsafe ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1)
    unsafe X509_gmtime_adj(X509_getm_notBefore(certificate), -3_600)
    unsafe X509_gmtime_adj(X509_getm_notAfter(certificate), 3_600)
    let names = "DNS:\(serverName),IP:127.0.0.1,IP:::1"
    guard unsafe X509_set_pubkey(certificate, key) == 1,
        unsafe X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, serverName, -1, -1, 0) == 1,
        unsafe X509_set_issuer_name(certificate, subject) == 1,
        let alternatives = unsafe X509V3_EXT_conf_nid(nil, nil, NID_subject_alt_name, names)
    else {
        unsafe X509_free(certificate)
        return nil
    }
    defer { unsafe X509_EXTENSION_free(alternatives) }
    guard unsafe X509_add_ext(certificate, alternatives, -1) == 1,
        unsafe X509_sign(certificate, key, EVP_sha256()) > 0
    else {
        unsafe X509_free(certificate)
        return nil
    }
    return unsafe certificate
}

/// What `write` writes.
private func text(_ write: (OpaquePointer?) -> CInt) -> String {
    let bio = unsafe BIO_new(BIO_s_mem())
    defer { unsafe BIO_free(bio) }
    guard unsafe write(bio) == 1 else { return "" }
    var bytes = [UInt8](repeating: 0, count: unsafe BIO_ctrl_pending(bio))
    let count = unsafe BIO_read(bio, &bytes, CInt(bytes.count))
    return String(decoding: bytes.prefix(Int(max(0, count))), as: UTF8.self)
}
