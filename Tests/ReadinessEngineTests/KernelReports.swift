import CLinux
import Glibc
import TestSupport

/// What the kernel itself says about a descriptor, in its own words: `IN OUT RDHUP`. Raw calls, none of ours.
enum KernelReport {
    /// Asked for input, output, urgent data and the peer's end.
    static func epoll(_ descriptor: Int32) -> String {
        epoll(descriptor, asking: EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLPRI.rawValue | EPOLLRDHUP.rawValue)
    }

    /// Asked for nothing: what cannot be left out.
    static func epollUnasked(_ descriptor: Int32) -> String {
        epoll(descriptor, asking: 0)
    }

    private static func epoll(_ descriptor: Int32, asking events: UInt32) -> String {
        let set = epoll_create1(0)
        defer { close(set) }
        var event = epoll_event(events: events, data: epoll_data_t())
        guard epoll_ctl(set, EPOLL_CTL_ADD, descriptor, &event) == 0 else { return "epoll_ctl: errno \(errno)" }
        return reported(in: set)
    }

    /// What an epoll set reports now.
    static func reported(in set: Int32) -> String {
        var event = epoll_event()
        let count = epoll_wait(set, &event, 1, 0)
        guard count == 1 else { return count == 0 ? "nothing" : "epoll_wait: errno \(errno)" }
        let names: [(EPOLL_EVENTS, String)] = [
            (EPOLLIN, "IN"), (EPOLLPRI, "PRI"), (EPOLLOUT, "OUT"), (EPOLLERR, "ERR"), (EPOLLHUP, "HUP"),
            (EPOLLRDHUP, "RDHUP"),
        ]
        return words(names.filter { event.events & $0.0.rawValue != 0 }.map(\.1))
    }

    static func poll(_ descriptor: Int32) -> String {
        poll(descriptor, asking: POLLIN | POLLOUT | POLLPRI | readHangUp)
    }

    static func pollUnasked(_ descriptor: Int32) -> String {
        poll(descriptor, asking: 0)
    }

    /// POLLRDHUP, which glibc hides behind _GNU_SOURCE (poll(2)).
    private static let readHangUp: Int32 = 0x2000

    private static func poll(_ descriptor: Int32, asking events: Int32) -> String {
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        guard Glibc.poll(&entry, 1, 0) >= 0 else { return "poll: errno \(errno)" }
        let names: [(Int32, String)] = [
            (POLLIN, "IN"), (POLLPRI, "PRI"), (POLLOUT, "OUT"), (POLLERR, "ERR"), (POLLHUP, "HUP"),
            (readHangUp, "RDHUP"), (POLLNVAL, "NVAL"),
        ]
        return words(names.filter { Int32(entry.revents) & $0.0 != 0 }.map(\.1))
    }

    static func select(_ descriptor: Int32) -> String {
        precondition(descriptor < 1_024, "the sets of select(2) end at 1,024")
        var sets = [fd_set(), fd_set(), fd_set()]
        for index in sets.indices {
            linux_fd_zero(&sets[index])
            linux_fd_set(descriptor, &sets[index])
        }
        var limit = timeval(tv_sec: 0, tv_usec: 0)
        let count = sets.withUnsafeMutableBufferPointer { sets in
            Glibc.select(descriptor + 1, &sets[0], &sets[1], &sets[2], &limit)
        }
        guard count >= 0 else { return errno == EBADF ? "EBADF" : "select: errno \(errno)" }
        let names = ["read", "write", "except"]
        return words(names.indices.filter { linux_fd_isset(descriptor, &sets[$0]) != 0 }.map { names[$0] })
    }

    private static func words(_ words: [String]) -> String {
        words.isEmpty ? "nothing" : words.joined(separator: " ")
    }
}

/// A socket in a state, and what must stay alive for it to stay so.
struct SocketState {
    let descriptor: Int32
    let others: [any Sendable]

    init(_ descriptor: Int32, keeping others: [any Sendable]) {
        self.descriptor = descriptor
        self.others = others
    }

    /// The states of the table in Vendor-notes/linux-readiness.md, by the names they have there.
    static let all: [(name: String, make: @Sendable () throws -> SocketState)] = [
        ("connected, at rest", { try connected { _, _ in } }),
        ("data unread", { try connected { _, peer in try peer.send("x") } }),
        (
            "kernel's send buffer full",
            {
                try connected { own, _ in
                    while try own.sendSome([UInt8](repeating: 0, count: 1 << 20)) > 0 {}
                }
            }
        ),
        ("FIN received", { try connected { _, peer in try peer.halfClose() } }),
        (
            "FIN received behind data",
            {
                try connected { _, peer in
                    try peer.send("x")
                    try peer.halfClose()
                }
            }
        ),
        ("FIN sent", { try connected { own, _ in try own.halfClose() } }),
        (
            "FIN sent and received",
            {
                try connected { own, peer in
                    try own.halfClose()
                    try peer.halfClose()
                }
            }
        ),
        ("RST received", { try connected { _, peer in try peer.reset() } }),
        (
            "RST received behind data",
            {
                try connected { _, peer in
                    try peer.send("x")
                    try peer.reset()
                }
            }
        ),
        (
            "RST received, error fetched",
            {
                try connected { own, peer in
                    try peer.reset()
                    try own.waitUntilReadable()
                    _ = try? own.receiveSome()
                }
            }
        ),
        ("connect refused", refused),
        ("never connected", { SocketState(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), keeping: []) }),
        ("urgent byte received", { try connected { _, peer in try peer.sendUrgent(7) } }),
        (
            "listening, nobody waits",
            {
                let listener = try PlainListener()
                return SocketState(listener.descriptor, keeping: [listener])
            }
        ),
        (
            "listening, a client waits",
            {
                let listener = try PlainListener()
                let client = try PlainClient(port: listener.port)
                return SocketState(listener.descriptor, keeping: [listener, client])
            }
        ),
        (
            "Unix socket, peer has closed",
            {
                var ends: [Int32] = [-1, -1]
                socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
                close(ends[1])
                return SocketState(ends[0], keeping: [PlainClient(adopting: ends[0])])
            }
        ),
    ]

    private static func connected(_ change: (PlainClient, PlainClient) throws -> Void) throws -> SocketState {
        let listener = try PlainListener()
        let peer = try PlainClient(port: listener.port)
        let own = try listener.accept()
        try change(own, peer)
        return SocketState(own.descriptor, keeping: [own, peer, listener])
    }

    private static func refused() throws -> SocketState {
        let port = try unusedPort()
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                _ = connect(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return SocketState(descriptor, keeping: [PlainClient(adopting: descriptor)])
    }
}
