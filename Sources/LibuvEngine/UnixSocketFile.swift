@_spi(Engine) internal import CallbackModel
internal import Glibc

/// Removes a socket file that no server listens on any more; never a live one, or another kind of file.
///
/// The kernel answers ECONNREFUSED for a socket file without a listener (connect(2)).
func removeStaleSocketFile(_ path: SocketAddress.Name) {
    let address = SocketAddress(.unixPath(path))
    let found = SocketFile(path: path)
    guard found.exists, let probe = try? Socket(family: AF_UNIX, about: address) else { return }
    let status = unsafe address.withSockaddr { unsafe connect(probe.number, $0, $1) == 0 ? 0 : errno }
    if status == ECONNREFUSED { found.remove() }
}

/// Sets who may connect: on Linux that takes write permission (unix(7)).
func setMode(_ mode: UInt32?, of path: SocketAddress.Name) throws(IOError) {
    guard let mode else { return }
    guard unsafe path.withCString({ unsafe chmod($0, mode_t(mode)) }) == 0 else {
        throw IOError(call: "chmod", errno: errno)
    }
}
