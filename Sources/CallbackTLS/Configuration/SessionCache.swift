internal import COpenSSL
internal import Synchronization

/// The sessions that a client may resume, the last one for each server. A ticket of TLS 1.3 is used once (RFC 8446,
/// appendix C.4).
final class SessionCache: Sendable {
    private struct Kept {
        var sessions: [String: (session: Session, order: UInt64)] = [:]
        var order: UInt64 = 0
    }

    private let kept = Mutex(Kept())

    /// 1,024 servers, at some 2 KiB for each with its certificate.
    private static let mostServers = 1_024

    /// Keeps a session whose reference becomes ours, in the place of an older one.
    func keep(_ pointer: OpaquePointer, for key: String) {
        let session = unsafe Session(pointer)
        kept.withLock { kept in
            kept.order += 1
            kept.sessions[key] = (session, kept.order)
            guard kept.sessions.count > Self.mostServers else { return }
            if let oldest = kept.sessions.min(by: { $0.value.order < $1.value.order })?.key {
                kept.sessions[oldest] = nil
            }
        }
    }

    /// Resumes a session on `ssl`, if one is kept.
    func resume(_ key: String, on ssl: OpaquePointer) {
        let session = kept.withLock { kept in
            let session = kept.sessions[key]?.session
            if session?.isForOneUse ?? false { kept.sessions[key] = nil }
            return session
        }
        guard let session else { return }
        _ = unsafe SSL_set_session(ssl, session.pointer)
    }

    /// An SSL_SESSION, whose count of references is atomic.
    private final class Session: Sendable {
        private let address: UInt

        var pointer: OpaquePointer { unsafe OpaquePointer(bitPattern: address).unsafelyUnwrapped }

        /// In TLS 1.3 each connection brings new ones.
        var isForOneUse: Bool { unsafe SSL_SESSION_get_protocol_version(pointer) == TLS1_3_VERSION }

        init(_ pointer: OpaquePointer) {
            address = UInt(bitPattern: pointer)
        }

        deinit {
            unsafe SSL_SESSION_free(pointer)
        }
    }
}
