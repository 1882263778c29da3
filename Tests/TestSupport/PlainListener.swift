import Glibc
import Synchronization

/// A listening socket whose accept has a time limit.
public final class PlainListener: Sendable {
    /// How long `accept` waits.
    public let timeLimit: Duration

    private let owned: Atomic<Int32>

    /// Listens over TCP; port 0 takes a free one. Accepted sockets inherit the buffer sizes (tcp(7)).
    public init(
        host: String = "127.0.0.1", port: UInt16 = 0, backlog: Int32 = 128, receiveBuffer: Int32? = nil,
        sendBuffer: Int32? = nil, timeLimit: Duration = standardTimeLimit
    ) throws {
        self.timeLimit = timeLimit
        let address = try RawAddress(host: host, port: port)
        owned = Atomic(try makeSocket(for: address))
        // A port that a test gives is one that another listener has just left, with connections in TIME_WAIT.
        try setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, Int32(1))
        try setBuffers(descriptor, receive: receiveBuffer, send: sendBuffer)
        try listen(on: address, backlog, "\(host) port \(port)")
    }

    /// Listens on a path. Whoever gave the path removes it.
    public init(unixPath: String, backlog: Int32 = 128, timeLimit: Duration = standardTimeLimit) throws {
        self.timeLimit = timeLimit
        let address = try RawAddress(unixPath: unixPath)
        owned = Atomic(try makeSocket(for: address))
        try listen(on: address, backlog, unixPath)
    }

    /// Listens on a name in the abstract namespace.
    public init(abstractName: String, backlog: Int32 = 128, timeLimit: Duration = standardTimeLimit) throws {
        self.timeLimit = timeLimit
        let address = try RawAddress(abstractName: abstractName)
        owned = Atomic(try makeSocket(for: address))
        try listen(on: address, backlog, "@" + abstractName)
    }

    deinit { close() }

    private func listen(on address: RawAddress, _ backlog: Int32, _ name: String) throws {
        guard address.withPointer({ bind(descriptor, $0, $1) }) == 0 else {
            throw PeerError("bind", errno: errno, waitedFor: name)
        }
        guard Glibc.listen(descriptor, backlog) == 0 else {
            throw PeerError("listen", errno: errno, waitedFor: name)
        }
        // A client that goes away between poll(2) and accept(2) would leave a blocking accept waiting for good.
        guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else {
            throw PeerError("fcntl", errno: errno, waitedFor: name)
        }
    }

    /// The listening socket; -1 once it is closed.
    public var descriptor: Int32 { owned.load(ordering: .acquiring) }

    /// The TCP port that it listens on; 0 if it has none.
    public var port: UInt16 { RawAddress(of: descriptor) { getsockname($0, $1, $2) }.port }

    /// Waits for the next connection. The connection has the listener's time limit.
    public func accept() throws -> PlainClient {
        let deadline = Deadline(in: timeLimit)
        while true {
            guard descriptor >= 0 else { throw PeerError("accept", errno: EBADF, waitedFor: "a connection") }
            try wait(descriptor, for: POLLIN, until: deadline, "accept", waitedFor: "a connection")
            let accepted = accept4(descriptor, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
            let number = errno
            if accepted >= 0 {
                let client = PlainClient(adopting: accepted, timeLimit: timeLimit)
                if port != 0 { try disableNagle(accepted) }
                return client
            }
            guard [EAGAIN, EINTR, ECONNABORTED].contains(number) else {
                throw PeerError("accept", errno: number, waitedFor: "a connection")
            }
        }
    }

    /// Closes the socket; clients that were not accepted are reset. A second time does nothing.
    public func close() {
        let descriptor = owned.exchange(-1, ordering: .acquiringAndReleasing)
        if descriptor >= 0 { closeOwned(descriptor) }
    }
}

/// accept4(2), hidden from Swift behind `_GNU_SOURCE` and so looked up by its name. With accept(2), a child that
/// another test spawns before FD_CLOEXEC is set would inherit the socket, and hold back its end.
private let accept4 = unsafeBitCast(
    dlsym(nil, "accept4"),
    to: (@convention(c) (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?, Int32) -> Int32).self
)
