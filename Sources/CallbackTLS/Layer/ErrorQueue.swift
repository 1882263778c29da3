internal import COpenSSL

/// OpenSSL's queue of errors, one for each thread. It has to be empty before a call whose failure SSL_get_error(3) is
/// asked about.
enum ErrorQueue {
    @inline(__always)
    static func clear() {
        if ERR_peek_error() != 0 { ERR_clear_error() }
    }

    /// The reason of the last error, in OpenSSL's words. Empties the queue.
    static func text() -> String {
        let error = ERR_peek_last_error()
        ERR_clear_error()
        return text(of: error)
    }

    static func text(of error: UInt) -> String {
        guard error != 0, let reason = unsafe ERR_reason_error_string(error) else { return "no reason was given" }
        return unsafe String(cString: reason)
    }

    /// Whether the queue holds an error with another reason.
    static func hasOther(than reason: CInt) -> Bool {
        let error = ERR_peek_last_error()
        return error != 0 && callbackserver_ERR_GET_REASON(error) != reason
    }
}
