internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

// The system calls of this engine, each wrapped once. They answer with a count or a negative errno, which is never
// EINTR: that a signal came meanwhile is no reason to tell anyone (signal(7)).

enum Kernel {
    /// A non-blocking, close-on-exec stream socket, or a negative errno (socket(2)).
    static func socket(family: Int32) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = Glibc.socket(family, type, 0)
        return descriptor >= 0 ? descriptor : -errno
    }

    /// 0 or a negative errno (bind(2)).
    static func bind(_ descriptor: Int32, to address: SocketAddress) -> Int32 {
        unsafe address.withSockaddr { unsafe Glibc.bind(descriptor, $0, $1) == 0 ? 0 : -errno }
    }

    /// 0, -EINPROGRESS or another negative errno (connect(2)). An interrupted call goes on by itself.
    static func connect(_ descriptor: Int32, to address: SocketAddress) -> Int32 {
        unsafe address.withSockaddr { unsafe Glibc.connect(descriptor, $0, $1) == 0 ? 0 : -errno }
    }

    /// 0 or a negative errno (listen(2)).
    static func listen(_ descriptor: Int32, backlog: Int) -> Int32 {
        Glibc.listen(descriptor, Int32(clamping: backlog)) == 0 ? 0 : -errno
    }

    /// The descriptor of the next waiting client, non-blocking and close-on-exec, or a negative errno (accept(2)).
    static func accept(_ descriptor: Int32) -> (result: Int32, address: SocketAddress) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var result: Int32
        repeat {
            result = unsafe withUnsafeMutablePointer(to: &storage) { storage in
                unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    let client = unsafe linux_accept4(descriptor, address, &length)
                    return client >= 0 ? client : -errno
                }
            }
        } while result == -EINTR
        return (result, SocketAddress(storage, length: length) ?? .unnamed)
    }

    /// How many bytes were read, 0 at the end, or a negative errno (recv(2)).
    @inline(__always)
    static func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ size: Int) -> Int {
        let count = unsafe recv(descriptor, buffer, size, 0)
        return count >= 0 ? count : -retriable(errno)
    }

    /// How many bytes the kernel took, or a negative errno (send(2)).
    ///
    /// MSG_NOSIGNAL, so that this call never raises SIGPIPE, whatever the process has done with it.
    @inline(__always)
    static func send(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ size: Int) -> Int {
        let count = unsafe Glibc.send(descriptor, bytes, size, Int32(MSG_NOSIGNAL))
        return count >= 0 ? count : -unsent(errno)
    }

    /// The same for several pieces (sendmsg(2)).
    static func send(_ descriptor: Int32, _ pieces: UnsafeMutableBufferPointer<iovec>) -> Int {
        var message = unsafe msghdr()
        unsafe message.msg_iov = pieces.baseAddress
        unsafe message.msg_iovlen = pieces.count
        let count = unsafe sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
        return count >= 0 ? count : -unsent(errno)
    }

    /// ENOBUFS as well: the kernel had no memory to queue anything (send(2)), which passes. libuv tries again, too.
    @inline(never)
    private static func unsent(_ error: Int32) -> Int {
        error == ENOBUFS ? Int(EAGAIN) : retriable(error)
    }

    /// An interrupted read or write has moved nothing, and the next wait tells that it can be tried again: the
    /// same as if it would have blocked.
    @inline(never)
    private static func retriable(_ error: Int32) -> Int {
        Int(error == EINTR ? EAGAIN : error)
    }

    /// Sends FIN: 0 or a negative errno (shutdown(2)).
    static func finish(_ descriptor: Int32) -> Int32 {
        shutdown(descriptor, Int32(SHUT_WR)) == 0 ? 0 : -errno
    }

    /// Never again on EINTR: Linux has closed the descriptor already (close(2)).
    static func close(_ descriptor: Int32) {
        _ = Glibc.close(descriptor)
    }

    /// The address a socket is bound to (getsockname(2)).
    static func localAddress(of descriptor: Int32) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe getsockname(descriptor, address, &length)
            }
        }
        return status == 0 ? SocketAddress(storage, length: length) : nil
    }

    /// Sets an option: 0 or a negative errno (setsockopt(2)).
    @discardableResult
    static func set<Value: BitwiseCopyable>(
        _ descriptor: Int32, _ level: Int32, _ option: Int32, to value: Value
    ) -> Int32 {
        var value = value
        let status = unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Value>.size))
        return status == 0 ? 0 : -errno
    }

    /// What an accepted or opened socket is given before it is used.
    ///
    /// A peer that has gone already makes some of these fail; reading tells what there is to tell.
    static func apply(_ options: Connection.Options, to descriptor: Int32, isTCP: Bool) {
        if let size = options.receiveBufferSize { set(descriptor, SOL_SOCKET, SO_RCVBUF, to: Int32(size)) }
        if let size = options.sendBufferSize { set(descriptor, SOL_SOCKET, SO_SNDBUF, to: Int32(size)) }
        guard isTCP else { return }
        let tcp = Int32(IPPROTO_TCP)
        if options.noDelay { set(descriptor, tcp, TCP_NODELAY, to: Int32(1)) }
        if let type = options.typeOfService {
            set(descriptor, Int32(IPPROTO_IP), IP_TOS, to: Int32(type))
            // Refused by an IPv4 socket, and no harm done.
            set(descriptor, Int32(IPPROTO_IPV6), IPV6_TCLASS, to: Int32(type))
        }
        if let mark = options.notSentLowWaterMark { set(descriptor, tcp, TCP_NOTSENT_LOWAT, to: Int32(mark)) }
        if let limit = options.userTimeout {
            set(descriptor, tcp, TCP_USER_TIMEOUT, to: Int32(limit.wholeMilliseconds))
        }
        guard let keepAlive = options.keepAlive else { return }
        set(descriptor, SOL_SOCKET, SO_KEEPALIVE, to: Int32(1))
        set(descriptor, tcp, TCP_KEEPIDLE, to: keepAlive.idleSeconds)
        set(descriptor, tcp, TCP_KEEPINTVL, to: keepAlive.intervalSeconds)
        set(descriptor, tcp, TCP_KEEPCNT, to: Int32(keepAlive.count))
    }

    /// The pending error of a socket, which is thereby fetched (SO_ERROR, socket(7)).
    static func pendingError(of descriptor: Int32) -> Int32 {
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
        return error
    }

    /// Whether an error is pending (POLLERR, poll(2)).
    static func hasError(_ descriptor: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: 0, revents: 0)
        return unsafe poll(&entry, 1, 0) == 1 && Int32(entry.revents) & POLLERR != 0
    }

    /// CLOCK_MONOTONIC in nanoseconds (clock_gettime(2)).
    static var nanoseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
