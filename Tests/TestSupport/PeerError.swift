import Glibc

/// What went wrong on the peer's side of a test: which call, why, and what the test was waiting for.
public struct PeerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Why a call did not do what the test asked.
    public enum Cause: Hashable, Sendable {
        /// The kernel refused, with this positive `errno`.
        case errno(Int32)
        /// The time limit passed first.
        case timeLimit(Duration)
        /// The call worked, but something else than what was waited for came: a FIN, other bytes, an exit.
        case unexpected(String)
    }

    /// The call that failed, by the name of its manual page or of the function in this module.
    public let call: String
    /// Why it failed.
    public let cause: Cause
    /// What the test was waiting for, in words.
    public let waitedFor: String

    /// Makes an error.
    public init(call: String, cause: Cause, waitedFor: String) {
        self.call = call
        self.cause = cause
        self.waitedFor = waitedFor
    }

    init(_ call: String, errno: Int32, waitedFor: String) {
        self.init(call: call, cause: .errno(errno), waitedFor: waitedFor)
    }

    /// The positive `errno`, if it was the kernel that refused.
    public var errno: Int32? {
        if case .errno(let number) = cause { number } else { nil }
    }

    /// Whether the time limit passed, which ETIMEDOUT of the kernel is not.
    public var isTimeLimit: Bool {
        if case .timeLimit = cause { true } else { false }
    }

    /// One sentence: `recv: ECONNRESET (Connection reset by peer), waiting for 5 bytes`.
    public var description: String {
        switch cause {
        case .errno(let number):
            "\(call): \(errnoName(number)) (\(String(cString: strerror(number)))), waiting for \(waitedFor)"
        case .timeLimit(let limit):
            "\(call): the time limit of \(limit) passed, waiting for \(waitedFor)"
        case .unexpected(let what):
            "\(call): \(what), waiting for \(waitedFor)"
        }
    }
}

/// The name of an `errno` in errno(3), or its number.
func errnoName(_ number: Int32) -> String {
    errnoNames[number] ?? "errno \(number)"
}

/// glibc's `strerrorname_np` is hidden from Swift behind `_GNU_SOURCE`; these are the ones that tests meet.
private let errnoNames: [Int32: String] = [
    EACCES: "EACCES", EADDRINUSE: "EADDRINUSE", EADDRNOTAVAIL: "EADDRNOTAVAIL", EAGAIN: "EAGAIN",
    EBADF: "EBADF", ECHILD: "ECHILD", ECONNABORTED: "ECONNABORTED", ECONNREFUSED: "ECONNREFUSED",
    ECONNRESET: "ECONNRESET", EEXIST: "EEXIST", EHOSTUNREACH: "EHOSTUNREACH", EINTR: "EINTR",
    EINVAL: "EINVAL", EIO: "EIO", EISCONN: "EISCONN", EMFILE: "EMFILE", ENAMETOOLONG: "ENAMETOOLONG",
    ENETUNREACH: "ENETUNREACH", ENFILE: "ENFILE", ENOBUFS: "ENOBUFS", ENOENT: "ENOENT", ENOMEM: "ENOMEM",
    ENOSYS: "ENOSYS", ENOTCONN: "ENOTCONN", ENOTDIR: "ENOTDIR", ENOTSOCK: "ENOTSOCK", EPERM: "EPERM",
    EPIPE: "EPIPE", EPROTO: "EPROTO", ESRCH: "ESRCH", ETIMEDOUT: "ETIMEDOUT", EAFNOSUPPORT: "EAFNOSUPPORT",
]
