@_spi(Engine) internal import CallbackModel
internal import Glibc

// Sockets that somebody else has made.

enum Adoption {
    /// The address of a listening stream socket; makes it non-blocking and close-on-exec.
    static func listener(_ descriptor: Int32) throws(IOError) -> SocketAddress {
        try check(descriptor, "listen", isListening: true)
        guard let address = Kernel.localAddress(of: descriptor) else { throw unknownFamily("listen", descriptor) }
        prepare(descriptor)
        return address
    }

    /// The peer's address of a connected stream socket; makes it non-blocking and close-on-exec.
    static func stream(_ descriptor: Int32) throws(IOError) -> SocketAddress {
        try check(descriptor, "adopt", isListening: false)
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe getpeername(descriptor, address, &length)
            }
        }
        guard status == 0 else { throw IOError(call: "getpeername", errno: errno) }
        guard let address = SocketAddress(storage, length: length) else { throw unknownFamily("adopt", descriptor) }
        prepare(descriptor)
        return address
    }

    private static func check(_ descriptor: Int32, _ call: String, isListening: Bool) throws(IOError) {
        let (type, listening) = (option(descriptor, SO_TYPE), option(descriptor, SO_ACCEPTCONN))
        try succeed(call, type)
        guard type == Int32(SOCK_STREAM.rawValue) else {
            throw .invalid(call, "descriptor \(descriptor) is no stream socket")
        }
        guard (listening == 1) == isListening else {
            throw .invalid(call, "descriptor \(descriptor) is \(isListening ? "not " : "")listening")
        }
    }

    private static func unknownFamily(_ call: String, _ descriptor: Int32) -> IOError {
        .invalid(call, "descriptor \(descriptor) is of another family", errno: EAFNOSUPPORT)
    }

    /// An option of SOL_SOCKET that is an `int`, or a negative errno (getsockopt(2)).
    private static func option(_ descriptor: Int32, _ option: Int32) -> Int32 {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return unsafe getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0 ? value : -errno
    }

    private static func prepare(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }
}
