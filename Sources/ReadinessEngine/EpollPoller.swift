internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

/// epoll(7): the kernel keeps the set and returns only what is ready. A wait costs the same however many descriptors
/// are at rest.
@safe final class EpollPoller: Poller {
    /// The most events of one wait. The kernel keeps the others in line for the next, so that none is forgotten.
    private static let eventsPerWait = 256

    private let descriptor: Int32
    // Allocated in `init`, given back in `deinit`.
    private let reported: UnsafeMutablePointer<epoll_event>
    private var last: Token?

    init() throws(IOError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw IOError(call: "epoll_create1", errno: errno) }
        unsafe reported = .allocate(capacity: Self.eventsPerWait)
    }

    deinit {
        unsafe reported.deallocate()
    }

    var descriptorLimit: Int32? { nil }

    func change(_ token: Token, from old: Readiness, to new: Readiness) throws(IOError) {
        let operation = old.isEmpty ? EPOLL_CTL_ADD : new.isEmpty ? EPOLL_CTL_DEL : EPOLL_CTL_MOD
        var event = unsafe epoll_event()
        unsafe event.events = epollBits(of: new)
        unsafe event.data.u64 = token.bits
        guard unsafe epoll_ctl(descriptor, operation, token.descriptor, &event) == 0 else {
            throw IOError(call: "epoll_ctl", errno: errno)
        }
    }

    /// The kernel reports only what is ready, so the place makes no difference.
    func watchLast(_ token: Token?) throws(IOError) {
        if let last { try change(last, from: .readable, to: []) }
        last = nil
        if let token { try change(token, from: [], to: .readable) }
        last = token
    }

    func wait(milliseconds: Int32) throws(IOError) -> Int {
        let count = unsafe epoll_wait(descriptor, reported, Int32(Self.eventsPerWait), milliseconds)
        if count < 0, errno != EINTR { throw IOError(call: "epoll_wait", errno: errno) }
        return Int(count)
    }

    func event(_ index: Int) -> Event {
        let event = unsafe reported[index]
        return unsafe Event(
            token: Token(bits: event.data.u64), readiness: readiness(ofEpollBits: event.events))
    }

    func close() {
        _ = Glibc.close(descriptor)
    }
}

/// What epoll is asked for. It also reports EPOLLERR and EPOLLHUP, asked or not.
func epollBits(of readiness: Readiness) -> UInt32 {
    var bits: UInt32 = 0
    if readiness.contains(.readable) { bits |= EPOLLIN.rawValue }
    if readiness.contains(.writable) { bits |= EPOLLOUT.rawValue }
    return bits
}

/// What an epoll event means to the loop; no state and no system calls, so that a table tests it.
func readiness(ofEpollBits bits: UInt32) -> Readiness {
    // An error or a hang-up is both: the read or write that follows says which error it is.
    if bits & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 { return [.readable, .writable] }
    var readiness: Readiness = []
    if bits & EPOLLIN.rawValue != 0 { readiness.insert(.readable) }
    if bits & EPOLLOUT.rawValue != 0 { readiness.insert(.writable) }
    return readiness
}
