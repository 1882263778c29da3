internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc

/// What wakes a loop from outside: an eventfd(2) counter. Other threads and signal handlers raise it. It is readable
/// until the loop has lowered it.
package struct Counter: Sendable {
    package let descriptor: Int32

    /// Throws EMFILE, ENFILE or ENOMEM.
    package init() throws(IOError) {
        descriptor = linux_eventfd()
        guard descriptor >= 0 else { throw IOError(call: "eventfd", errno: errno) }
    }

    /// Wakes the loop. write(2) fails only when the counter is full, and then it is readable already.
    package func raise() {
        var one: UInt64 = 1
        _ = unsafe Glibc.write(descriptor, &one, MemoryLayout<UInt64>.size)
    }

    package func close() {
        closeDescriptor(descriptor)
    }

    /// Sets it back to zero. The loop looks at what it was raised for after this call, or it could miss a later raise.
    package func lower() {
        var count: UInt64 = 0
        _ = unsafe Glibc.read(descriptor, &count, MemoryLayout<UInt64>.size)
    }
}
