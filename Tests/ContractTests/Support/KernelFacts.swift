import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

// What the kernel knows of a socket, asked directly. A handler that needs to know that bytes or a reset have
// arrived waits for the fact itself: that is no matter of time.

/// Waits until the kernel holds at least `count` bytes for a descriptor (FIONREAD, tcp(7)).
func waitForInput(_ descriptor: Int32, atLeast count: Int, sourceLocation: SourceLocation = #_sourceLocation) {
    waitUntil("\(count) bytes of input", sourceLocation) {
        var available: Int32 = 0
        let isKnown = ioctl(descriptor, UInt(FIONREAD), &available) == 0
        return isKnown && Int(available) >= count
    }
}

/// Waits until a descriptor's connection is dead: reset, or closed by both ends (POLLHUP, POLLERR, poll(2)).
func waitForHangUp(_ descriptor: Int32, sourceLocation: SourceLocation = #_sourceLocation) {
    waitUntil("hang-up", sourceLocation) {
        var entry = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&entry, 1, 0) > 0
    }
}

/// Waits until a descriptor's peer has sent FIN (POLLRDHUP, poll(2)), behind whatever is still to be read.
func waitForFin(_ descriptor: Int32, sourceLocation: SourceLocation = #_sourceLocation) {
    waitUntil("FIN", sourceLocation) {
        var entry = pollfd(fd: descriptor, events: pollRDHUP, revents: 0)
        return poll(&entry, 1, 0) > 0
    }
}

/// POLLRDHUP, which Glibc hides behind `_GNU_SOURCE`.
private let pollRDHUP: Int16 = 0x2000

/// How many TCP segments with data a socket has received: `tcpi_data_segs_in` (linux/tcp.h, RFC 4898).
///
/// With TCP_NODELAY, and while few are under way, each send(2) of the peer that fits one segment makes exactly
/// one: on loopback, where a segment takes 64 KiB, this counts the peer's system calls.
func receivedDataSegments(_ descriptor: Int32) throws -> Int {
    // Glibc's `tcp_info` ends before this field.
    let offset = 152
    var info = [UInt8](repeating: 0, count: 256)
    var length = socklen_t(info.count)
    let status = getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &info, &length)
    guard status == 0, Int(length) >= offset + 4 else {
        throw PeerError(call: "getsockopt", cause: .errno(errno), waitedFor: "TCP_INFO with tcpi_data_segs_in")
    }
    return Int(info.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) })
}

extension PlainClient {
    /// Waits until the peer's kernel has acknowledged all that was sent (SIOCOUTQ, tcp(7)).
    func waitUntilAcknowledged() throws {
        let end = ContinuousClock.now + timeLimit
        var unacknowledged: Int32 = 1
        while true {
            guard ioctl(descriptor, UInt(TIOCOUTQ), &unacknowledged) == 0 else {
                throw PeerError(call: "ioctl", cause: .errno(errno), waitedFor: "SIOCOUTQ")
            }
            if unacknowledged == 0 { return }
            guard ContinuousClock.now < end else {
                throw PeerError(
                    call: "ioctl", cause: .timeLimit(timeLimit), waitedFor: "\(unacknowledged) bytes to arrive")
            }
            sched_yield()
        }
    }
}

// What tests ask the kernel itself, so that they depend on no engine.

/// The same for how a group spreads its connections.
extension EventLoop.Group.Distribution: Codable {}

/// What the kernel calls the socket behind a descriptor, `socket:[4711]`. Unlike the descriptor's number, which
/// another test may get the moment it is free, it stays this socket's.
func kernelName(ofSocket descriptor: Int32) throws -> String {
    try #require(try openDescriptors()[descriptor])
}

/// Whether any descriptor of this process still stands for the socket.
func isOpen(kernelName: String) throws -> Bool {
    try openDescriptors().values.contains(kernelName)
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

/// The listening socket of this process that is bound to a TCP port, as the kernel has it.
func listeningSocket(port: UInt16) throws -> (descriptor: Int32, kernelName: String)? {
    try listeningSockets(port: port).first.map { ($0.value, $0.key) }
}

/// How many clients wait to be accepted at a port of this process: `tcpi_unacked` of its listening sockets.
func waitingClients(port: UInt16) -> Int {
    let sockets = (try? listeningSockets(port: port)) ?? [:]
    return sockets.values.reduce(0) { count, descriptor in
        var info = tcp_info()
        var length = socklen_t(MemoryLayout<tcp_info>.size)
        let status = getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &info, &length)
        return status == 0 ? count + Int(info.tcpi_unacked) : count
    }
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
