internal import Glibc

/// The file that bind(2) makes for a Unix socket with a path, and that the kernel never removes (unix(7)).
package final class SocketFile {
    /// The same file whatever the working directory becomes.
    private let path: SocketAddress.Name
    /// Tells our file from one that another process has put in its place.
    private let identity: Identity?

    private struct Identity: Equatable {
        let device: dev_t
        let inode: ino_t
    }

    /// The file that a bind to `path` has just made.
    package init(path: SocketAddress.Name) {
        self.path = Self.absolute(path)
        identity = Self.identity(of: self.path)
    }

    /// The file behind `address`, to which a socket was bound just now; `nil` for an address that has none.
    convenience init?(bound address: SocketAddress?) {
        guard case .unixPath(let path)? = address?.storage, !path.bytes.isEmpty else { return nil }
        self.init(path: path)
    }

    /// Whether there was a socket file when this was made.
    package var exists: Bool { identity != nil }

    /// Removes the file, if it is still ours.
    package func remove() {
        if let identity, Self.identity(of: path) == identity { _ = unsafe path.withCString { unsafe unlink($0) } }
    }

    /// The socket file at `path`; `nil` for another kind of file, or none.
    private static func identity(of path: SocketAddress.Name) -> Identity? {
        var status = stat()
        let found = unsafe path.withCString { unsafe lstat($0, &status) }
        guard found == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
        return Identity(device: status.st_dev, inode: status.st_ino)
    }

    /// The path with its folder's own, which a change of the working directory leaves as it is.
    private static func absolute(_ path: SocketAddress.Name) -> SocketAddress.Name {
        let (folder, name) = split(path)
        guard let resolved = unsafe folder.withCString({ unsafe realpath($0, nil) }) else { return path }
        defer { unsafe free(resolved) }
        let folderBytes = unsafe UnsafeRawBufferPointer(start: resolved, count: strlen(resolved))
        return unsafe SocketAddress.Name(folderBytes + [UInt8(ascii: "/")] + name.bytes)
    }

    /// A path's folder and its name there.
    package static func split(
        _ path: SocketAddress.Name
    ) -> (folder: SocketAddress.Name, name: SocketAddress.Name) {
        guard let slash = path.bytes.lastIndex(of: UInt8(ascii: "/")) else {
            return (SocketAddress.Name(".".utf8), path)
        }
        let folder = path.bytes[..<max(slash, 1)]
        return (SocketAddress.Name(folder), SocketAddress.Name(path.bytes[(slash + 1)...]))
    }
}
