internal import CallbackModel
internal import Glibc

extension IOError {
    /// What a call throws on a connection that has closed, or that closes while the call waits.
    init(_ reason: CloseReason, of call: String) {
        switch reason {
        case .failed(let error): self = error
        case .peerReset: self.init(call: call, errno: ECONNRESET)
        case .truncated: self.init(call: call, errno: EPROTO, detail: "the peer's TLS has not ended before its FIN")
        case .peerClosed: self.init(call: call, errno: EPIPE, detail: "the peer has ended, and then this side")
        case .timedOut(let kind): self.init(call: call, errno: ETIMEDOUT, detail: "the time-out \"\(kind)\" has passed")
        case .drainDeadline:
            self.init(call: call, errno: ETIMEDOUT, detail: "the deadline of the listener's drain has passed")
        case .shed: self.init(call: call, errno: ENOBUFS, detail: "too much was queued")
        case .localClose: self.init(call: call, errno: ECANCELED, detail: "this side has ended the connection")
        case .localReset: self.init(call: call, errno: ECANCELED, detail: "this side has reset the connection")
        }
    }
}
