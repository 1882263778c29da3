@_spi(Engine) internal import CallbackModel
internal import Glibc

/// The file that stands for a bound Unix socket (unix(7)). The kernel never removes it.
struct UnixSocketFile {
    private let path: SocketAddress.Name
    /// Tells our file from one that another process has put in its place.
    private let identity: Identity?

    private struct Identity: Equatable {
        let device: dev_t
        let inode: ino_t
    }

    /// The file that bind(2) has just made.
    init(path: SocketAddress.Name) {
        self.path = path
        identity = Self.identity(of: path)
    }

    /// The socket file at `path`; nothing for another kind of file, or none.
    private static func identity(of path: SocketAddress.Name) -> Identity? {
        var status = stat()
        let found = unsafe path.withCString { unsafe lstat($0, &status) }
        guard found == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
        return Identity(device: status.st_dev, inode: status.st_ino)
    }

    /// Sets who may connect: on Linux that takes write permission (unix(7)).
    func setMode(_ mode: UInt32?) throws(IOError) {
        guard let mode else { return }
        guard unsafe path.withCString({ unsafe chmod($0, mode_t(mode)) }) == 0 else {
            throw IOError(call: "chmod", errno: errno)
        }
    }

    /// Removes the file, if it is still ours.
    func remove() {
        if let identity, Self.identity(of: path) == identity { _ = unsafe path.withCString { unsafe unlink($0) } }
    }

    /// Removes a socket file that no server listens on any more; never a live one, or another kind of file.
    ///
    /// The kernel answers ECONNREFUSED for a socket file without a listener (connect(2)).
    static func removeStale(_ path: SocketAddress.Name) {
        let address = SocketAddress(.unixPath(path))
        guard let found = identity(of: path), let probe = try? Socket(family: AF_UNIX, about: address) else { return }
        let status = unsafe address.withSockaddr { unsafe connect(probe.number, $0, $1) == 0 ? 0 : errno }
        if status == ECONNREFUSED, identity(of: path) == found { _ = unsafe path.withCString { unsafe unlink($0) } }
    }
}
