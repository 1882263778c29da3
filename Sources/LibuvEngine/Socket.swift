internal import CLibuv
internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

// The system calls on sockets that libuv has no call for, each wrapped once.

/// A descriptor on its way to its owner: closed unless `take()` was called.
struct Socket: ~Copyable {
    private var descriptor: Int32

    init(adopting descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// A non-blocking, close-on-exec stream socket (socket(2)).
    init(family: Int32, about address: SocketAddress) throws(IOError) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let made = socket(family, type, 0)
        guard made >= 0 else { throw IOError(call: "socket", errno: errno, address: address) }
        descriptor = aboveStandardStreams(made)
    }

    deinit {
        // Never again on EINTR: Linux has closed it already (close(2)).
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
    }

    /// For calls that only look.
    var number: Int32 { descriptor }

    /// The descriptor, which the caller now owns.
    consuming func take() -> Int32 {
        let taken = descriptor
        descriptor = -1
        return taken
    }

    func set(_ level: Int32, _ option: Int32, to value: Int32) throws(IOError) {
        let status = setOption(descriptor, level, option, value)
        guard status == 0 else { throw IOError(call: "setsockopt", errno: status) }
    }

    func bind(to address: SocketAddress) throws(IOError) {
        let status = unsafe address.withSockaddr { unsafe Glibc.bind(descriptor, $0, $1) }
        guard status == 0 else { throw IOError(call: "bind", errno: errno, address: address) }
    }

    func listen(backlog: Int, about address: SocketAddress) throws(IOError) {
        guard Glibc.listen(descriptor, Int32(backlog)) == 0 else {
            throw IOError(call: "listen", errno: errno, address: address)
        }
    }
}

/// What came of one accept(2).
enum AcceptResult {
    case client(Int32, SocketAddress)
    /// No client waits: EAGAIN.
    case nobody
    /// This client is gone or was never reachable; the next one may be well.
    case clientFailed(Int32)
    /// EMFILE or ENFILE.
    case descriptorLimit(Int32)
    /// Anything else; the same call would fail again.
    case failed(Int32)
}

/// Takes one waiting client, non-blocking and close-on-exec.
func acceptClient(on descriptor: Int32) -> AcceptResult {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    while true {
        let client = unsafe withUnsafeMutableBytes(of: &storage) { raw in
            unsafe linux_accept4(descriptor, raw.assumingMemoryBound(to: sockaddr.self).baseAddress, &length)
        }
        let error = errno
        if client >= 0 {
            return .client(aboveStandardStreams(client), SocketAddress(storage, length: length) ?? .unnamed)
        }
        switch error {
        case EINTR: continue
        case EAGAIN: return .nobody
        case EMFILE, ENFILE: return .descriptorLimit(error)
        // Linux passes the new socket's pending errors on; accept(2) says to treat them like EAGAIN.
        case ECONNABORTED, ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP,
            ENETUNREACH:
            return .clientFailed(error)
        default: return .failed(error)
        }
    }
}

/// The same socket with a number above 2: `uv_close` does not close the numbers of the standard streams, one of
/// which a client gets when the program has closed it.
func aboveStandardStreams(_ descriptor: Int32) -> Int32 {
    guard descriptor <= STDERR_FILENO else { return descriptor }
    let moved = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)
    guard moved >= 0 else { return descriptor }
    _ = Glibc.close(descriptor)
    return moved
}

/// The address a descriptor is bound to (getsockname(2)).
func localAddress(of descriptor: Int32) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = unsafe withUnsafeMutableBytes(of: &storage) { raw in
        unsafe getsockname(descriptor, raw.assumingMemoryBound(to: sockaddr.self).baseAddress, &length)
    }
    return status == 0 ? SocketAddress(storage, length: length) : nil
}

/// Why a connection that was open is no more: its pending error (SO_ERROR, socket(7)), or ECONNRESET if a call
/// has fetched that already.
func lossError(of descriptor: Int32) -> Int32 {
    var error: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    let status = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
    return status == 0 && error != 0 ? error : ECONNRESET
}

/// Sets an option that is an `int` (setsockopt(2)); 0 or the errno.
func setOption(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) -> Int32 {
    var value = value
    return unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) == 0
        ? 0 : errno
}

/// What an accepted or opened socket is given before it is used.
///
/// A peer that has gone already makes some of these fail with EINVAL; reading tells what there is to tell, so
/// failures are not reported here.
func applyOptions(_ options: Connection.Options, to descriptor: Int32, isTCP: Bool) {
    if let size = options.receiveBufferSize { _ = setOption(descriptor, SOL_SOCKET, SO_RCVBUF, Int32(size)) }
    if let size = options.sendBufferSize { _ = setOption(descriptor, SOL_SOCKET, SO_SNDBUF, Int32(size)) }
    guard isTCP else { return }
    let tcp = Int32(IPPROTO_TCP)
    if options.noDelay { _ = setOption(descriptor, tcp, TCP_NODELAY, 1) }
    if let type = options.typeOfService {
        _ = setOption(descriptor, Int32(IPPROTO_IP), IP_TOS, Int32(type))
        // Refused by an IPv4 socket, and no harm done.
        _ = setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_TCLASS, Int32(type))
    }
    if let mark = options.notSentLowWaterMark { _ = setOption(descriptor, tcp, TCP_NOTSENT_LOWAT, Int32(mark)) }
    if let limit = options.userTimeout {
        _ = setOption(descriptor, tcp, TCP_USER_TIMEOUT, Int32(limit.wholeMilliseconds))
    }
    guard let keepAlive = options.keepAlive else { return }
    _ = setOption(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
    _ = setOption(descriptor, tcp, TCP_KEEPIDLE, keepAlive.idleSeconds)
    _ = setOption(descriptor, tcp, TCP_KEEPINTVL, keepAlive.intervalSeconds)
    _ = setOption(descriptor, tcp, TCP_KEEPCNT, Int32(keepAlive.count))
}

/// Makes the coming close send RST in place of FIN (SO_LINGER with zero seconds, socket(7)).
func resetOnClose(_ descriptor: Int32) {
    var lingering = linger(l_onoff: 1, l_linger: 0)
    unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &lingering, socklen_t(MemoryLayout<linger>.size))
}
