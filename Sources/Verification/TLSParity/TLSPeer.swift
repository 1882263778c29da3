internal import COpenSSL
internal import Glibc
internal import ParityKit

/// A peer's TLS: OpenSSL upon the socket itself.
@safe final class TLSPeer: PeerLayer {
    private unowned let socket: PeerSocket
    private let ssl: OpaquePointer
    private var hasEnded = false
    private var hasSaidEnd = false

    init(_ socket: PeerSocket, _ witness: Witness, isServer: Bool) throws(PeerFailure) {
        guard let ssl = unsafe witness.makeSSL(isServer: isServer), unsafe SSL_set_fd(ssl, socket.descriptor) == 1
        else { throw PeerFailure(call: "SSL_new", errno: ENOMEM) }
        self.socket = socket
        unsafe self.ssl = ssl
    }

    /// SSL_set_fd(3) leaves the socket open.
    deinit { unsafe SSL_free(ssl) }

    func begin() throws(PeerFailure) {
        while true {
            ERR_clear_error()
            let result = unsafe SSL_do_handshake(ssl)
            if result == 1 { return }
            try wait(failure(of: result, errno, "SSL_do_handshake"))
        }
    }

    func advance() {
        ERR_clear_error()
        _ = unsafe SSL_do_handshake(ssl)
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Result<Int?, PeerFailure> {
        ERR_clear_error()
        let result = unsafe SSL_write(ssl, bytes.baseAddress, CInt(clamping: bytes.count))
        if result > 0 { return .success(Int(result)) }
        switch failure(of: result, errno, "SSL_write") {
        case .needs: return .success(nil)
        case .failed(let failure): return .failure(failure)
        }
    }

    func receive(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int?, PeerFailure> {
        if hasEnded { return receiveEnd() }
        ERR_clear_error()
        let result = unsafe SSL_read(ssl, bytes.baseAddress, CInt(clamping: bytes.count))
        if result > 0 { return .success(Int(result)) }
        let error = errno
        hasEnded = unsafe SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN != 0
        if hasEnded { return receiveEnd() }
        switch failure(of: result, error, "SSL_read") {
        case .needs: return .success(nil)
        case .failed(let failure): return .failure(failure)
        }
    }

    /// Behind close_notify there is FIN, and nothing else.
    private func receiveEnd() -> Result<Int?, PeerFailure> {
        var byte: UInt8 = 0
        let answer = unsafe withUnsafeMutableBytes(of: &byte) { unsafe socket.receivePlain($0) }
        guard case .success(.some(let count)) = answer, count > 0 else { return answer }
        return .failure(PeerFailure(call: "recv: bytes came behind close_notify", errno: EPROTO))
    }

    var hasInput: Bool { unsafe SSL_pending(ssl) > 0 }

    func end(mayWait: Bool) throws(PeerFailure) {
        guard !hasSaidEnd, unsafe SSL_is_init_finished(ssl) == 1 else { return }
        while true {
            ERR_clear_error()
            let result = unsafe SSL_shutdown(ssl)
            // 0: it was sent, and the other side's has not come.
            if result >= 0 {
                hasSaidEnd = true
                return
            }
            let failure = failure(of: result, errno, "SSL_shutdown")
            if !mayWait { return }
            try wait(failure)
        }
    }

    // MARK: Failures

    private enum Failure {
        case needs(Int32)
        case failed(PeerFailure)
    }

    private func wait(_ failure: Failure) throws(PeerFailure) {
        switch failure {
        case .needs(let events): try socket.wait(events, events == POLLIN ? "recv" : "send")
        case .failed(let failure): throw failure
        }
    }

    /// Why a call has returned `result` (SSL_get_error(3)).
    private func failure(of result: CInt, _ errno: Int32, _ call: String) -> Failure {
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .needs(POLLIN)
        case SSL_ERROR_WANT_WRITE: return .needs(POLLOUT)
        case SSL_ERROR_SYSCALL: return .failed(PeerFailure(call: call, errno: errno))
        default: break
        }
        let error = ERR_peek_last_error()
        if callbackserver_ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING { return .failed(.truncation) }
        let reason = unsafe ERR_reason_error_string(error).map { unsafe String(cString: $0) } ?? "no reason was given"
        return .failed(PeerFailure(call: "\(call): \(reason)", errno: EPROTO))
    }
}
