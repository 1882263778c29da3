@_spi(Engine) package import CallbackModel
internal import Glibc

/// A descriptor that is closed when no other is left, so that a waiting client can be accepted and turned away.
package struct SpareDescriptor {
    private var descriptor: Int32 = -1

    /// Throws what open(2) does: without it no client could be turned away at the descriptor limit.
    package init() throws(IOError) {
        open()
        guard descriptor >= 0 else { throw IOError(call: "open", errno: errno) }
    }

    /// Opens it again. It stays closed if another thread was faster, until the next call.
    package mutating func open() {
        guard descriptor < 0 else { return }
        // A file that every system has.
        unsafe descriptor = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
    }

    package mutating func close() {
        guard descriptor >= 0 else { return }
        closeDescriptor(descriptor)
        descriptor = -1
    }
}
