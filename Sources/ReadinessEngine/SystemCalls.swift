internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

// The system calls of this engine that move bytes, connect and accept, each wrapped once. They return a count or a
// negative errno. That is never EINTR: a signal is no event of the descriptor (signal(7)).

enum Kernel {
    /// 0, -EINPROGRESS or another negative errno (connect(2)). An interrupted call goes on by itself.
    static func connect(_ descriptor: Int32, to address: SocketAddress) -> Int32 {
        unsafe address.withSockaddr { unsafe Glibc.connect(descriptor, $0, $1) == 0 ? 0 : -errno }
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

    /// The same for ENOBUFS: the kernel had no memory to queue anything (send(2)), which passes.
    @inline(never)
    private static func unsent(_ error: Int32) -> Int {
        error == ENOBUFS ? Int(EAGAIN) : retriable(error)
    }

    /// An interrupted read or write has moved nothing. It counts as one that would block: the next wait tells when to
    /// try again.
    @inline(never)
    private static func retriable(_ error: Int32) -> Int {
        Int(error == EINTR ? EAGAIN : error)
    }

    /// Sends FIN. Returns 0 or a negative errno (shutdown(2)).
    static func sendFIN(_ descriptor: Int32) -> Int32 {
        shutdown(descriptor, Int32(SHUT_WR)) == 0 ? 0 : -errno
    }

    /// CLOCK_MONOTONIC in nanoseconds (clock_gettime(2)).
    static var nanoseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
