@_spi(Engine) package import CallbackModel
internal import Glibc

extension Socket {
    /// Binds and listens. Returns the socket's file if `address` is a path.
    package func listen(on address: SocketAddress, _ options: Listener.Options) throws(IOError) -> SocketFile? {
        do throws(IOError) {
            try setOptions(for: address, options)
            guard case .unixPath(let path) = address.storage else {
                try bind(to: address)
                try listen(backlog: options.backlog)
                return nil
            }
            let lock = options.unixCleanUp ? FolderLock(around: path) : nil
            // Kept until the socket listens.
            defer { lock?.release() }
            if options.unixCleanUp { removeStaleSocketFile(path) }
            try bind(to: address)
            let file = SocketFile(path: path)
            do throws(IOError) {
                try setMode(options.unixMode, of: path)
                try listen(backlog: options.backlog)
            } catch {
                file.remove()
                throw error
            }
            return file
        } catch {
            throw error.about(address)
        }
    }

    private func setOptions(for address: SocketAddress, _ options: Listener.Options) throws(IOError) {
        if address.family == .unix { return }
        if address.family == .ipv6 { try set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, to: options.ipv6Only ? 1 : 0) }
        if options.reuseAddress { try set(SOL_SOCKET, SO_REUSEADDR, to: 1) }
        if options.reusePort { try set(SOL_SOCKET, SO_REUSEPORT, to: 1) }
    }

    private func set(_ level: Int32, _ option: Int32, to value: Int32) throws(IOError) {
        guard LinuxSockets.set(number, level, option, to: value) == 0 else {
            throw IOError(call: "setsockopt", errno: errno)
        }
    }

    private func listen(backlog: Int) throws(IOError) {
        guard Glibc.listen(number, Int32(clamping: backlog)) == 0 else { throw IOError(call: "listen", errno: errno) }
    }
}

/// Sets who may connect: on Linux that takes write permission (unix(7)).
private func setMode(_ mode: UInt32?, of path: SocketAddress.Name) throws(IOError) {
    guard let mode else { return }
    guard unsafe path.withCString({ unsafe chmod($0, mode_t(mode)) }) == 0 else {
        throw IOError(call: "chmod", errno: errno)
    }
}

/// Removes a socket file on which no server listens any more, and no other file.
///
/// For a socket file without a listener, connect(2) fails with ECONNREFUSED.
private func removeStaleSocketFile(_ path: SocketAddress.Name) {
    let address = SocketAddress(.unixPath(path))
    let found = SocketFile(path: path)
    guard found.exists, let probe = try? Socket(family: AF_UNIX, about: address) else { return }
    let status = unsafe address.withSockaddr { unsafe connect(probe.number, $0, $1) == 0 ? 0 : errno }
    if status == ECONNREFUSED { found.remove() }
}
