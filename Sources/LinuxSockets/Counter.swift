internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc

/// What wakes a loop from outside: an eventfd(2) counter, raised by other threads and by signal handlers, and
/// readable until the loop has lowered it.
package struct Counter: Sendable {
    package let descriptor: Int32

    /// Throws EMFILE, ENFILE or ENOMEM.
    package init() throws(IOError) {
        descriptor = linux_eventfd()
        guard descriptor >= 0 else { throw IOError(call: "eventfd", errno: errno) }
    }

    /// Wakes the loop. It fails only when the counter is full, and then the loop has been told already.
    package func raise() {
        var one: UInt64 = 1
        _ = unsafe Glibc.write(descriptor, &one, MemoryLayout<UInt64>.size)
    }

    package func close() {
        _ = Glibc.close(descriptor)
    }

    /// Sets it back to zero; what it was raised for is looked at after this, so that nothing is missed.
    package func lower() {
        var count: UInt64 = 0
        _ = unsafe Glibc.read(descriptor, &count, MemoryLayout<UInt64>.size)
    }
}
