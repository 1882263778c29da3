internal import COpenSSL
public import CallbackModel

extension TLS {
    /// Why a handshake did not succeed.
    public struct HandshakeFailure: Hashable, Sendable, CustomStringConvertible {
        /// With whom.
        public let peer: SocketAddress
        /// The host that the client has named, if it has come that far.
        public let serverName: String?
        /// Why.
        public let cause: Cause

        /// Why a handshake did not succeed.
        public enum Cause: Hashable, Sendable {
            /// This side did not accept the peer's certificate, in OpenSSL's words: `certificate has expired`.
            case certificate(String)
            /// The peer has refused, with an alert (RFC 8446, section 6): `tlsv1 alert unknown ca`.
            case alert(String)
            /// The peer speaks another protocol, another version, or breaks the rules.
            case protocolError(String)
            /// The peer has finished in the middle.
            case peerClosed
            /// There were too many handshakes at once, and this was the oldest.
            case tooMany
            /// The connection closed for another reason: a time-out, a reset, this side's own close.
            case closed(CloseReason)
        }

        /// One line: `127.0.0.1:4711: certificate: certificate has expired`.
        public var description: String {
            let name = serverName.map { " for \(String(escaping: Array($0.utf8)))" } ?? ""
            return "\(peer)\(name): \(cause)"
        }
    }
}

extension TLS.HandshakeFailure.Cause: CustomStringConvertible {
    /// `certificate: self-signed certificate`, `peerClosed`.
    public var description: String {
        switch self {
        case .certificate(let reason): "certificate: \(reason)"
        case .alert(let reason): "alert: \(reason)"
        case .protocolError(let reason): "protocolError: \(reason)"
        case .peerClosed: "peerClosed"
        case .tooMany: "tooMany"
        case .closed(let reason): "closed: \(reason)"
        }
    }
}

extension TLS.HandshakeFailure.Cause {
    /// What a call has left in the queue of errors, which is emptied.
    static func last(of ssl: OpaquePointer) -> Self {
        let error = ERR_peek_last_error()
        let text = ErrorQueue.text()
        let reason = callbackserver_ERR_GET_REASON(error)
        guard callbackserver_ERR_GET_LIB(error) == ERR_LIB_SSL else { return .protocolError(text) }
        if reason == SSL_R_CERTIFICATE_VERIFY_FAILED {
            let result = unsafe SSL_get_verify_result(ssl)
            return unsafe .certificate(String(cString: X509_verify_cert_error_string(result)))
        }
        if reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE { return .certificate(text) }
        return reason >= SSL_AD_REASON_OFFSET ? .alert(text) : .protocolError(text)
    }

    /// In the reason of a connection's close.
    var detail: String {
        switch self {
        case .certificate(let reason), .alert(let reason), .protocolError(let reason): reason
        case .peerClosed: "the peer closed in the middle of it"
        case .tooMany: "too many at once"
        case .closed(let reason): "\(reason)"
        }
    }
}
