@_spi(Engine) package import CallbackModel
internal import Glibc

// Sockets that other code has made.

/// Makes a listening stream socket fit for a loop, and returns its address. A socket that is refused is untouched.
///
/// Throws ENOTSOCK, EBADF, EINVAL for a socket that is no stream or is not listening, EAFNOSUPPORT for another family.
package func adoptListening(_ descriptor: Int32) throws(IOError) -> SocketAddress {
    try check(descriptor, "listen", isListening: true)
    let address = try unsafe address(of: descriptor, "listen", "getsockname", getsockname)
    prepare(descriptor)
    return address
}

/// Makes a connected stream socket fit for a loop, and returns its peer's address. A socket that is refused is
/// untouched.
///
/// Throws ENOTSOCK, EBADF, ENOTCONN, EINVAL for a socket that is no stream or is listening, EAFNOSUPPORT for another
/// family.
package func adoptConnected(_ descriptor: Int32) throws(IOError) -> SocketAddress {
    try check(descriptor, "adopt", isListening: false)
    let address = try unsafe address(of: descriptor, "adopt", "getpeername", getpeername)
    prepare(descriptor)
    return address
}

private func check(_ descriptor: Int32, _ call: String, isListening: Bool) throws(IOError) {
    guard let kind = option(descriptor, SO_TYPE) else { throw IOError(call: call, errno: errno) }
    guard kind == Int32(SOCK_STREAM.rawValue) else {
        throw .invalid(call, "descriptor \(descriptor) is no stream socket")
    }
    guard (option(descriptor, SO_ACCEPTCONN) == 1) == isListening else {
        throw .invalid(call, "descriptor \(descriptor) is \(isListening ? "not " : "")listening")
    }
}

private func address(
    of descriptor: Int32, _ call: String, _ question: String,
    _ ask: (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
) throws(IOError) -> SocketAddress {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = unsafe withUnsafeMutableBytes(of: &storage) { raw in
        unsafe ask(descriptor, raw.assumingMemoryBound(to: sockaddr.self).baseAddress, &length)
    }
    guard status == 0 else { throw IOError(call: question, errno: errno) }
    guard let address = SocketAddress(storage, length: length) else {
        throw .invalid(call, "descriptor \(descriptor) is of another family", errno: EAFNOSUPPORT)
    }
    return address
}

private func prepare(_ descriptor: Int32) {
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    setLinger(descriptor, to: .inBackground)
}
