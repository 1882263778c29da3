@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

// libuv never closes descriptors 0 to 2, and aborts when it is to close one of its own that has such a number
// (`uv__close`).

/// Opens /dev/null for each standard stream that the process was started without, before a socket gets its number.
func occupyStandardDescriptors() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
        // Gets just this number: those below are open, and open(2) gives the lowest.
        _ = unsafe open("/dev/null", O_RDWR)
    }
}

/// The same socket with a number above 2. A new socket has a lower one when the program has closed a standard stream.
func aboveStandardDescriptors(_ descriptor: Int32) -> Int32 {
    guard descriptor <= STDERR_FILENO else { return descriptor }
    let moved = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)
    guard moved >= 0 else { return descriptor }
    closeDescriptor(descriptor)
    return moved
}

/// A new socket that libuv will close.
func makeSocket(family: Int32, about address: SocketAddress) throws(IOError) -> Socket {
    Socket(adopting: aboveStandardDescriptors(try Socket(family: family, about: address).detach()))
}
