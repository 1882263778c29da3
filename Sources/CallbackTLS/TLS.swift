public import CallbackModel

/// TLS 1.2 and 1.3 over a connection, by OpenSSL.
///
/// A connection with TLS is the same `Connection` with the same callbacks. It opens when the handshake is done, and all
/// bytes that its callbacks, writes and counts see are in clear.
public enum TLS {
    /// A version of the protocol. Older ones are never spoken (RFC 8996).
    public enum Version: Int, Hashable, Sendable, Comparable, CaseIterable, CustomStringConvertible {
        /// RFC 5246.
        case tls12 = 0x0303
        /// RFC 8446.
        case tls13 = 0x0304

        /// Older first.
        public static func < (left: Version, right: Version) -> Bool { left.rawValue < right.rawValue }

        /// `TLS 1.2` or `TLS 1.3`.
        public var description: String { self == .tls12 ? "TLS 1.2" : "TLS 1.3" }
    }

    /// Certificates in PEM, the form with `-----BEGIN CERTIFICATE-----` (RFC 7468).
    public struct Certificates: Sendable {
        let source: Source

        /// Read from a file of at most 1 MiB, when the configuration is made.
        public static func file(_ path: String) -> Certificates { Certificates(source: .file(path)) }

        /// The text itself.
        public static func pem(_ text: String) -> Certificates { Certificates(source: .bytes(Array(text.utf8))) }
    }

    /// A private key in PEM. Nothing ever asks for a passphrase at a terminal.
    public struct PrivateKey: Sendable {
        let source: Source
        let passphrase: String?

        /// Read from a file of at most 1 MiB, when the configuration is made. `passphrase` opens an encrypted one.
        public static func file(_ path: String, passphrase: String? = nil) -> PrivateKey {
            PrivateKey(source: .file(path), passphrase: passphrase)
        }

        /// The text itself.
        public static func pem(_ text: String, passphrase: String? = nil) -> PrivateKey {
            PrivateKey(source: .bytes(Array(text.utf8)), passphrase: passphrase)
        }
    }

    /// Who one side is: its certificate, then those that lead from it to a root, and the key of the first.
    public struct Identity: Sendable {
        let certificateChain: Certificates
        let privateKey: PrivateKey

        /// Checked when a ``Server`` or ``Client`` is made of it.
        public init(certificateChain: Certificates, privateKey: PrivateKey) {
            self.certificateChain = certificateChain
            self.privateKey = privateKey
        }
    }

    /// Whose certificates are accepted. The peer's chain has to lead to one of them, and be valid now.
    ///
    /// Whether a certificate was revoked is not looked up.
    public enum Trust: Sendable {
        /// The roots of this system: OpenSSL's default places, which SSL_CERT_FILE and SSL_CERT_DIR can move
        /// (SSL_CTX_set_default_verify_paths(3)).
        case system
        /// These certificates alone.
        case certificates(Certificates)
        /// Anybody's, for any name: whoever is in between reads and changes everything. For tests.
        case anyoneWithoutVerification
    }

    /// Why a ``Server`` or ``Client`` could not be made. It names the file, but never shows what is in it.
    public enum ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
        /// A file could not be read: ENOENT, EACCES, EFBIG for more than 1 MiB.
        case unreadable(IOError)
        /// There is no certificate in what was given, or one that is damaged.
        case noCertificate(String)
        /// There is no private key in what was given, or one that is damaged.
        case noPrivateKey(String)
        /// The private key is encrypted, and no passphrase or a wrong one was given.
        case encryptedPrivateKey(String)
        /// The private key is not the one of the first certificate.
        case keyDoesNotFit(String)
        /// OpenSSL refuses what was given: a key that is too short for its security level, for instance.
        case refused(String)
        /// An option out of its documented bounds.
        case invalid(String)

        /// One sentence, fit for a terminal.
        public var description: String {
            switch self {
            case .unreadable(let error): error.description
            case .noCertificate(let name): "\(name): there is no certificate in it that can be read"
            case .noPrivateKey(let name): "\(name): there is no private key in it that can be read"
            case .encryptedPrivateKey(let name): "\(name): the private key is encrypted, and no passphrase fits"
            case .keyDoesNotFit(let name): "\(name): the private key does not belong to the certificate"
            case .refused(let reason): "OpenSSL refuses it: \(reason)"
            case .invalid(let reason): reason
            }
        }
    }
}
