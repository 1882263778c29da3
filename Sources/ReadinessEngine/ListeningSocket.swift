@_spi(Engine) internal import CallbackModel
internal import Glibc

/// A bound and listening, non-blocking socket, and its file if it is a Unix socket with a path.
func openListeningSocket(
    on address: SocketAddress, _ options: Listener.Options, descriptorLimit: Int32?
) throws(IOError) -> (descriptor: Int32, file: BoundSocketFile?) {
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
        if options.unixCleanUp { removeStaleSocketFile(path) }
        try succeed("bind", Kernel.bind(descriptor, to: address))
        let file = BoundSocketFile(path: path)
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

/// The file that bind(2) made for a Unix socket, and that the kernel never removes (unix(7)).
struct BoundSocketFile {
    private let path: SocketAddress.Name
    /// What it was when it was made: another process may have put its own in its place since.
    private let identity: FileIdentity?

    init(path: SocketAddress.Name) {
        self.path = path
        identity = FileIdentity(ofSocketFile: path)
    }

    func remove() {
        if let identity, FileIdentity(ofSocketFile: path) == identity {
            _ = unsafe path.withCString { unsafe unlink($0) }
        }
    }
}

/// Which file a path leads to; nothing where there is none, or one that is no socket.
private struct FileIdentity: Equatable {
    private let device: dev_t
    private let number: ino_t

    init?(ofSocketFile path: SocketAddress.Name) {
        var information = stat()
        let found = unsafe path.withCString { unsafe lstat($0, &information) }
        guard found == 0, information.st_mode & S_IFMT == S_IFSOCK else { return nil }
        device = information.st_dev
        number = information.st_ino
    }
}

/// Removes a socket file that nobody listens on any more, which connect(2) tells by ECONNREFUSED.
private func removeStaleSocketFile(_ path: SocketAddress.Name) {
    guard let found = FileIdentity(ofSocketFile: path) else { return }
    let probe = Kernel.socket(family: AF_UNIX)
    guard probe >= 0 else { return }
    defer { Kernel.close(probe) }
    guard Kernel.connect(probe, to: SocketAddress(.unixPath(path))) == -ECONNREFUSED else { return }
    if FileIdentity(ofSocketFile: path) == found { _ = unsafe path.withCString { unsafe unlink($0) } }
}
