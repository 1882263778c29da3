@_spi(Engine) internal import CallbackModel
internal import Glibc

/// A lock on the folder of a Unix socket's file (flock(2)), held from the look at an old file to listen(2).
///
/// Without it, a second process that starts would take a socket that is bound and not yet listening for a stale one. It
/// would remove the file, and both would listen. Where the folder cannot be locked, only this protection is lost.
final class FolderLock {
    private var descriptor: Int32

    /// How long another process may keep the lock, in milliseconds: it needs it for a few system calls. Without a
    /// bound the loop would stand still.
    private static let patience = 200

    /// Waits for the lock on the folder of `path`.
    init(around path: SocketAddress.Name) {
        let folder = SocketFile.split(path).folder
        descriptor = unsafe folder.withCString { unsafe open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard descriptor >= 0 else { return }
        for _ in 0..<Self.patience {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR) { return }
            _ = poll(nil, 0, 1)
        }
    }

    func release() {
        // The lock goes with its only descriptor.
        if descriptor >= 0 { closeDescriptor(descriptor) }
        descriptor = -1
    }

    deinit { release() }
}
