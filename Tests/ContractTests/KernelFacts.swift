import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

// What tests ask the kernel itself, so that they depend on no engine.

/// So that an exit test, which runs in a process of its own, can be handed the engine.
extension Engine: Codable {}

/// CLOCK_MONOTONIC, now: what timers are measured against.
func monotonicTime() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return .seconds(Int64(time.tv_sec)) + .nanoseconds(Int64(time.tv_nsec))
}

/// Keeps this thread busy, as a callback that computes for long does.
func compute(for time: Duration) {
    let end = monotonicTime() + time
    while monotonicTime() < end {}
}

/// Lets time pass while something is watched, such as how much of it a server computes. Synchronizes nothing.
func observe(for time: Duration) {
    let end = monotonicTime() + time
    // poll(2) without descriptors only waits; a signal may cut it short.
    while monotonicTime() < end { poll(nil, 0, 5) }
}

/// What the kernel calls the socket behind a descriptor, `socket:[4711]`. Unlike the descriptor's number, which
/// another test may get the moment it is free, it stays this socket's.
func kernelName(ofSocket descriptor: Int32) throws -> String {
    try #require(try openDescriptors()[descriptor])
}

/// Whether any descriptor of this process still stands for the socket.
func isOpen(kernelName: String) throws -> Bool {
    try openDescriptors().values.contains(kernelName)
}

extension PlainClient {
    /// Waits until the peer's kernel has acknowledged all that was sent: a reset can no longer overtake it.
    func waitUntilAcknowledged() throws {
        let end = monotonicTime() + timeLimit
        while true {
            var count: Int32 = 0
            // SIOCOUTQ, which has the number of TIOCOUTQ (tcp(7)).
            guard ioctl(descriptor, UInt(TIOCOUTQ), &count) == 0 else {
                throw PeerError(call: "ioctl", cause: .errno(errno), waitedFor: "the count of bytes under way")
            }
            if count == 0 { return }
            guard monotonicTime() < end else {
                throw PeerError(
                    call: "ioctl", cause: .timeLimit(timeLimit), waitedFor: "\(count) bytes to be acknowledged")
            }
            sched_yield()
        }
    }
}

/// Counts the turns of a loop with a timer that arms itself for the next turn, again and again.
final class TurnCounter {
    private(set) var turns = 0
    private var timer: EventLoop.Timer?
    /// Runs at the beginning of each turn.
    var onTurn: (Int) -> Void = { _ in }

    init(_ loop: EventLoop) {
        timer = loop.schedule(after: .zero) { [unowned self] timer in
            turns += 1
            timer.reschedule(after: .zero)
            onTurn(turns)
        }
    }

    func stop() { timer?.cancel() }
}

/// Takes part in what a callback captures, and tells whether the callback has been let go.
final class Token {}

/// The listening socket of this process that is bound to a TCP port, as the kernel has it.
func listeningSocket(port: UInt16) throws -> (descriptor: Int32, kernelName: String)? {
    for (descriptor, name) in try openDescriptors() where name.hasPrefix("socket:") {
        var isListening: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) == 0 else { continue }
        if isListening != 0, localPort(of: descriptor) == port { return (descriptor, name) }
    }
    return nil
}

/// The TCP port that a descriptor over IPv4 is bound to.
func localPort(of descriptor: Int32) -> UInt16? {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutableBytes(of: &address) { bytes in
        getsockname(descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
    }
    guard status == 0, address.sin_family == sa_family_t(AF_INET) else { return nil }
    return UInt16(bigEndian: address.sin_port)
}

extension Listener {
    /// The port of a TCP listener, as peers take it.
    var port: UInt16 { UInt16(localAddress.port ?? 0) }
}

extension EventLoop {
    /// A listener on 127.0.0.1 with a port of the kernel's choice.
    func listen(
        options: Listener.Options = .init(), onConnection: @escaping (Connection) -> Void
    ) throws -> Listener {
        try listen(on: .ipv4("127.0.0.1", port: 0), options: options, onConnection: onConnection)
    }
}

/// Something that one thread tells another.
final class Flag: Sendable {
    private let value = Atomic(false)

    var isSet: Bool { value.load(ordering: .acquiring) }

    func set() { value.store(true, ordering: .releasing) }
}
