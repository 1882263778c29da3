import CallbackServer
import Glibc
import TestSupport
import Testing

// What the kernel knows of a socket, asked directly. A handler that needs to know that bytes or a reset have
// arrived waits for the fact itself: that is no matter of time.

/// Waits until the kernel holds at least `count` bytes for a descriptor (FIONREAD, tcp(7)).
func waitForInput(_ descriptor: Int32, atLeast count: Int, sourceLocation: SourceLocation = #_sourceLocation) {
    wait("\(count) bytes of input", sourceLocation) {
        var available: Int32 = 0
        let isKnown = ioctl(descriptor, UInt(FIONREAD), &available) == 0
        return isKnown && Int(available) >= count
    }
}

/// Waits until a descriptor's connection is dead: reset, or closed by both ends (POLLHUP, POLLERR, poll(2)).
func waitForHangUp(_ descriptor: Int32, sourceLocation: SourceLocation = #_sourceLocation) {
    wait("a hang-up", sourceLocation) {
        var entry = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&entry, 1, 0) > 0
    }
}

/// Waits until a descriptor's peer has sent FIN (POLLRDHUP, poll(2)), behind whatever is still to be read.
func waitForFin(_ descriptor: Int32, sourceLocation: SourceLocation = #_sourceLocation) {
    wait("FIN", sourceLocation) {
        var entry = pollfd(fd: descriptor, events: pollRDHUP, revents: 0)
        return poll(&entry, 1, 0) > 0
    }
}

/// POLLRDHUP, which Glibc hides behind `_GNU_SOURCE`.
private let pollRDHUP: Int16 = 0x2000

private func wait(_ what: String, _ sourceLocation: SourceLocation, until isSo: () -> Bool) {
    let end = ContinuousClock.now + .seconds(10)
    while !isSo() {
        if ContinuousClock.now > end {
            Issue.record("there was no \(what) within 10 s", sourceLocation: sourceLocation)
            return
        }
        sched_yield()
    }
}

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
