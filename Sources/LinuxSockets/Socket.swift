@_spi(Engine) package import CallbackModel
internal import Glibc

/// A descriptor on its way to its owner. It is closed unless `detach()` was called.
package struct Socket: ~Copyable {
    private var descriptor: Int32

    package init(adopting descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// A non-blocking, close-on-exec stream socket (socket(2)).
    package init(family: Int32, about address: SocketAddress) throws(IOError) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        descriptor = socket(family, type, 0)
        guard descriptor >= 0 else { throw IOError(call: "socket", errno: errno, address: address) }
    }

    deinit {
        if descriptor >= 0 { closeDescriptor(descriptor) }
    }

    /// For calls that only look.
    package var number: Int32 { descriptor }

    /// The descriptor, which the caller now owns.
    package consuming func detach() -> Int32 {
        let number = descriptor
        descriptor = -1
        return number
    }

    package func bind(to address: SocketAddress) throws(IOError) {
        let status = unsafe address.withSockaddr { unsafe Glibc.bind(descriptor, $0, $1) }
        guard status == 0 else { throw IOError(call: "bind", errno: errno, address: address) }
    }
}

/// close(2). Never again on EINTR: Linux has closed the descriptor already.
package func closeDescriptor(_ descriptor: Int32) {
    _ = Glibc.close(descriptor)
}

/// The address that a socket is bound to (getsockname(2)).
package func localAddress(of descriptor: Int32) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = unsafe withUnsafeMutableBytes(of: &storage) { raw in
        unsafe getsockname(descriptor, raw.assumingMemoryBound(to: sockaddr.self).baseAddress, &length)
    }
    return status == 0 ? SocketAddress(storage, length: length) : nil
}

/// The pending error of a socket, which this call clears; 0 without one (SO_ERROR, socket(7)).
package func pendingError(of descriptor: Int32) -> Int32 {
    option(descriptor, SO_ERROR) ?? 0
}

/// Why a connection that was open is lost: its pending error, or ECONNRESET if another call has cleared that.
package func lossError(of descriptor: Int32) -> Int32 {
    let error = pendingError(of: descriptor)
    return error == 0 ? ECONNRESET : error
}

/// An option of SOL_SOCKET that is an `int` (getsockopt(2)); `nil`, and `errno`, for what is no socket.
func option(_ descriptor: Int32, _ option: Int32) -> Int32? {
    var value: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return unsafe getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0 ? value : nil
}
