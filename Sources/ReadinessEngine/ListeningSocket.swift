@_spi(Engine) internal import CallbackModel
internal import Glibc

/// A bound and listening, non-blocking socket, and its file if it is a Unix socket with a path.
func openListeningSocket(
    on address: SocketAddress, _ options: Listener.Options, descriptorLimit: Int32?
) throws(IOError) -> (descriptor: Int32, file: SocketFile?) {
    let descriptor = Kernel.socket(family: address.family)
    guard descriptor >= 0 else { throw IOError(call: "socket", errno: -descriptor, address: address) }
    do throws(IOError) {
        if descriptor >= descriptorLimit ?? .max { throw IOError.notSelectable(descriptor) }
        try setOptions(descriptor, address, options)
        guard case .unixPath(let path) = address.storage else {
            try succeed("bind", Kernel.bind(descriptor, to: address))
            try succeed("listen", Kernel.listen(descriptor, backlog: options.backlog))
            return (descriptor, nil)
        }
        let lock = options.unixCleanUp ? FolderLock(around: path) : nil
        // Kept until the socket listens.
        defer { lock?.release() }
        if options.unixCleanUp { removeStaleSocketFile(path) }
        try succeed("bind", Kernel.bind(descriptor, to: address))
        let file = SocketFile(path: path)
        do throws(IOError) {
            if let mode = options.unixMode {
                try succeed("chmod", unsafe path.withCString { unsafe chmod($0, mode_t(mode)) == 0 ? 0 : -errno })
            }
            try succeed("listen", Kernel.listen(descriptor, backlog: options.backlog))
        } catch {
            file.remove()
            throw error
        }
        return (descriptor, file)
    } catch {
        Kernel.close(descriptor)
        throw error.about(address)
    }
}

private func setOptions(_ descriptor: Int32, _ address: SocketAddress, _ options: Listener.Options) throws(IOError) {
    guard address.family != AF_UNIX else { return }
    let (on, off) = (Int32(1), Int32(0))
    if address.family == AF_INET6 {
        let only = options.ipv6Only ? on : off
        try succeed("setsockopt", Kernel.set(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, to: only))
    }
    if options.reuseAddress { try succeed("setsockopt", Kernel.set(descriptor, SOL_SOCKET, SO_REUSEADDR, to: on)) }
    if options.reusePort { try succeed("setsockopt", Kernel.set(descriptor, SOL_SOCKET, SO_REUSEPORT, to: on)) }
}

/// Throws if `status` is a negative errno.
func succeed(_ call: String, _ status: Int32) throws(IOError) {
    if status < 0 { throw IOError(call: call, errno: -status) }
}

/// Removes a socket file that nobody listens on any more, which connect(2) tells by ECONNREFUSED.
private func removeStaleSocketFile(_ path: SocketAddress.Name) {
    let found = SocketFile(path: path)
    guard found.exists else { return }
    let probe = Kernel.socket(family: AF_UNIX)
    guard probe >= 0 else { return }
    defer { Kernel.close(probe) }
    if Kernel.connect(probe, to: SocketAddress(.unixPath(path))) == -ECONNREFUSED { found.remove() }
}
