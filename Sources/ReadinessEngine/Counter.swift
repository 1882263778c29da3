internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

/// What wakes a loop from outside: an eventfd(2) counter, raised by other threads and by signal handlers, and
/// readable until the loop has lowered it.
struct Counter: Sendable {
    let descriptor: Int32

    /// Throws EMFILE, ENFILE or ENOMEM.
    init() throws(IOError) {
        descriptor = linux_eventfd()
        guard descriptor >= 0 else { throw IOError(call: "eventfd", errno: errno) }
    }

    /// Wakes the loop. It fails only when the counter is full, and then the loop has been told already.
    func raise() {
        var one: UInt64 = 1
        _ = unsafe write(descriptor, &one, MemoryLayout<UInt64>.size)
    }

    /// Sets it back to zero; what it was raised for is looked at after this, so that nothing is missed.
    func lower() {
        var count: UInt64 = 0
        _ = unsafe read(descriptor, &count, MemoryLayout<UInt64>.size)
    }

    /// Blocks this thread, and sets it back to zero.
    func waitUntilRaised() {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = unsafe poll(&entry, 1, -1)
        lower()
    }
}
