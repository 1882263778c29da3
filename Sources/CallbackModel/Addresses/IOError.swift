internal import Glibc

/// A call that the operating system, the resolver or the library itself refused.
///
/// The only error that the libraries throw. It says which call failed, with which `errno`, and for which
/// address, so that one line on a terminal is enough to act on.
public struct IOError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The call that failed, by the name of its manual page: `"bind"`, `"accept"`, `"getaddrinfo"`.
    public let call: String

    /// The positive `errno` value (errno(3)).
    public let errno: Int32

    /// The address concerned, when there is one.
    public let address: SocketAddress?

    /// What the caller gave, in the words of a person, when `errno` alone would not tell: `"port 70000"`.
    public let detail: String?

    /// Makes an error from a failed call and its positive `errno`.
    public init(call: String, errno: Int32, address: SocketAddress? = nil, detail: String? = nil) {
        self.call = call
        self.errno = errno
        self.address = address
        self.detail = detail
    }

    /// The name of `errno` in errno(3): `"EADDRINUSE"`; `"errno 4711"` for a number without a name.
    public var name: String {
        errnoNames[errno] ?? "errno \(errno)"
    }

    /// One sentence: `bind 127.0.0.1:80: EACCES (permission denied)`.
    ///
    /// It is fit for a terminal: a host or a path in it is escaped as `String.init(escaping:)` does. In ``detail`` a
    /// backslash stays, since it may be the front of an escape.
    public var description: String {
        var subject = String(escaping: call)
        if let address { subject += " \(address)" }
        if let detail { subject += " (\(String(escaping: Array(detail.utf8), keepsBackslashes: true)))" }
        guard let meaning = errnoMeanings[errno] else { return "\(subject): \(name)" }
        return "\(subject): \(name) (\(meaning))"
    }

    /// A refusal of an argument before any system call was made.
    package static func invalid(_ call: String, _ detail: String, errno: Int32 = EINVAL) -> IOError {
        IOError(call: call, errno: errno, detail: detail)
    }

    /// The same error, told with the address it concerns.
    package func about(_ address: SocketAddress) -> IOError {
        IOError(call: call, errno: errno, address: address, detail: detail)
    }
}

extension IOError {
    static let timedOut = ETIMEDOUT
    static let refused = ECONNREFUSED
    static let noAddress = EADDRNOTAVAIL
    static let overflow = EOVERFLOW
    static let badMessage = EBADMSG
    package static let protocolError = EPROTO
    static let messageTooLong = EMSGSIZE

    /// Whether a peer's reset caused this error. The kernel gives ECONNRESET to the first call after it and EPIPE to
    /// later writes (send(2), tcp(7)); other systems give ECONNABORTED.
    package var isPeerReset: Bool {
        errno == ECONNRESET || errno == EPIPE || errno == ECONNABORTED
    }
}

/// errno(3), for the errors that sockets, files and the resolver can give.
private let errnoNames: [Int32: String] = [
    EPERM: "EPERM", ENOENT: "ENOENT", EINTR: "EINTR", EIO: "EIO", EBADF: "EBADF", EAGAIN: "EAGAIN",
    ENOMEM: "ENOMEM", EACCES: "EACCES", EFAULT: "EFAULT", EBUSY: "EBUSY", EEXIST: "EEXIST", ENODEV: "ENODEV",
    ENOTDIR: "ENOTDIR", EISDIR: "EISDIR", EINVAL: "EINVAL", ENFILE: "ENFILE", EMFILE: "EMFILE",
    ENOSPC: "ENOSPC", EROFS: "EROFS", EPIPE: "EPIPE", ERANGE: "ERANGE", ENAMETOOLONG: "ENAMETOOLONG",
    ENOSYS: "ENOSYS", ELOOP: "ELOOP", EPROTO: "EPROTO", EOVERFLOW: "EOVERFLOW", ENOTSOCK: "ENOTSOCK",
    EDESTADDRREQ: "EDESTADDRREQ", EMSGSIZE: "EMSGSIZE", EPROTOTYPE: "EPROTOTYPE", ENOPROTOOPT: "ENOPROTOOPT",
    EPROTONOSUPPORT: "EPROTONOSUPPORT", EOPNOTSUPP: "EOPNOTSUPP", EAFNOSUPPORT: "EAFNOSUPPORT",
    EADDRINUSE: "EADDRINUSE", EADDRNOTAVAIL: "EADDRNOTAVAIL", ENETDOWN: "ENETDOWN",
    ENETUNREACH: "ENETUNREACH", ECONNABORTED: "ECONNABORTED", ECONNRESET: "ECONNRESET", ENOBUFS: "ENOBUFS",
    EISCONN: "EISCONN", ENOTCONN: "ENOTCONN", ETIMEDOUT: "ETIMEDOUT", ECONNREFUSED: "ECONNREFUSED",
    EHOSTDOWN: "EHOSTDOWN", EHOSTUNREACH: "EHOSTUNREACH", EALREADY: "EALREADY", EINPROGRESS: "EINPROGRESS",
    ECANCELED: "ECANCELED", EBADMSG: "EBADMSG",
]

/// The common errors in words; the name alone is enough for the rest.
private let errnoMeanings: [Int32: String] = [
    EACCES: "permission denied", EPERM: "operation not permitted", EADDRINUSE: "address already in use",
    EADDRNOTAVAIL: "no such address on this host", ECONNREFUSED: "connection refused",
    ECONNRESET: "connection reset by the peer", EPIPE: "the peer no longer reads", ETIMEDOUT: "timed out",
    EMFILE: "this process has no descriptor left", ENFILE: "the system has no descriptor left",
    ENOENT: "no such file, directory or host", ENOTDIR: "not a directory", EINVAL: "invalid argument",
    ENAMETOOLONG: "name too long", ENOMEM: "out of memory", ENOBUFS: "no buffer space",
    EHOSTUNREACH: "no route to the host", ENETUNREACH: "network unreachable",
    EAFNOSUPPORT: "address family not supported", EEXIST: "exists already", EBUSY: "busy",
    EPROTO: "protocol error", EROFS: "read-only file system", ENOTSOCK: "not a socket", EOPNOTSUPP: "not supported",
]
