import Glibc
import Synchronization

/// A blocking stream socket whose every operation has a time limit, and which shares no code with the library.
///
/// It owns its descriptor. One thread uses it at a time; it may be handed to another.
public final class PlainClient: Sendable {
    /// How long any one operation may take.
    public let timeLimit: Duration

    private let owned: Atomic<Int32>
    /// The kernel tells a reset once: after a send heard of it, a receive is told of an orderly end.
    private let heardReset = Atomic(false)

    /// Takes over a connected socket: it is closed with this object.
    public init(adopting descriptor: Int32, timeLimit: Duration = standardTimeLimit) {
        owned = Atomic(descriptor)
        self.timeLimit = timeLimit
    }

    /// Connects over TCP, without Nagle's algorithm. Buffer sizes, in bytes, are set before connecting.
    public convenience init(
        port: UInt16, host: String = "127.0.0.1", receiveBuffer: Int32? = nil, sendBuffer: Int32? = nil,
        timeLimit: Duration = standardTimeLimit
    ) throws {
        let address = try RawAddress(host: host, port: port)
        self.init(adopting: raised(try makeSocket(for: address)), timeLimit: timeLimit)
        try setBuffers(descriptor, receive: receiveBuffer, send: sendBuffer)
        try disableNagle(descriptor)
        try connect(to: address, "\(host) port \(port)")
    }

    /// Connects to a Unix socket in the file system; with `own`, the bytes of `sun_path`, from a socket bound to it.
    public convenience init(
        unixPath: String, own: [UInt8]? = nil, receiveBuffer: Int32? = nil, sendBuffer: Int32? = nil,
        timeLimit: Duration = standardTimeLimit
    ) throws {
        let address = try RawAddress(unixPath: unixPath)
        self.init(adopting: raised(try makeSocket(for: address)), timeLimit: timeLimit)
        try setBuffers(descriptor, receive: receiveBuffer, send: sendBuffer)
        if let own {
            let name = try RawAddress(unixBytes: own, name: "of this client")
            guard name.withPointer({ bind(descriptor, $0, $1) }) == 0 else {
                throw PeerError("bind", errno: errno, waitedFor: "a name of this client")
            }
        }
        try connect(to: address, unixPath)
    }

    /// Connects to a Unix socket in the abstract namespace.
    public convenience init(abstractName: String, timeLimit: Duration = standardTimeLimit) throws {
        let address = try RawAddress(abstractName: abstractName)
        self.init(adopting: raised(try makeSocket(for: address)), timeLimit: timeLimit)
        try connect(to: address, "@" + abstractName)
    }

    /// Connects to the Unix socket whose `sun_path` has these bytes, a closing NUL or a leading one included.
    public convenience init(unixBytes: [UInt8], timeLimit: Duration = standardTimeLimit) throws {
        let address = try RawAddress(unixBytes: unixBytes, name: "\(unixBytes)")
        self.init(adopting: raised(try makeSocket(for: address)), timeLimit: timeLimit)
        try connect(to: address, "\(unixBytes)")
    }

    /// One end of a pair of Unix sockets, as a descriptor, and the other.
    public static func pair(isBlocking: Bool = true) throws -> (Int32, PlainClient) {
        var ends: [Int32] = [-1, -1]
        let type = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | (isBlocking ? 0 : SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, Int32(type), 0, &ends) == 0 else {
            throw PeerError("socketpair", errno: errno, waitedFor: "two descriptors")
        }
        return (ends[0], PlainClient(adopting: raised(ends[1])))
    }

    deinit { close() }

    private func connect(to address: RawAddress, _ name: String) throws {
        // connect(2) blocks for minutes otherwise; with it, TCP answers EINPROGRESS in time, Unix EAGAIN.
        let (seconds, attoseconds) = timeLimit.components
        var limit = timeval(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
        // A limit of zero means none to the kernel.
        if limit.tv_sec == 0, limit.tv_usec == 0 { limit.tv_usec = 1 }
        try setOption(descriptor, SOL_SOCKET, SO_SNDTIMEO, limit)
        while true {
            if address.withPointer({ Glibc.connect(descriptor, $0, $1) }) == 0 { return }
            switch errno {
            // Linux goes on with the same attempt.
            case EINTR: continue
            case EINPROGRESS, EAGAIN, EALREADY:
                throw PeerError(
                    call: "connect", cause: .timeLimit(timeLimit), waitedFor: "a connection to \(name)")
            case let number: throw PeerError("connect", errno: number, waitedFor: "a connection to \(name)")
            }
        }
    }

    // MARK: The descriptor

    /// The socket; -1 once it is closed.
    public var descriptor: Int32 { owned.load(ordering: .acquiring) }

    /// The TCP port of this end; 0 if it has none.
    public var localPort: UInt16 { RawAddress(of: descriptor) { getsockname($0, $1, $2) }.port }

    /// The TCP port of the other end; 0 if it has none.
    public var remotePort: UInt16 { RawAddress(of: descriptor) { getpeername($0, $1, $2) }.port }

    /// Sends FIN and goes on receiving: `shutdown(SHUT_WR)`.
    public func halfClose() throws {
        guard shutdown(descriptor, Int32(SHUT_WR)) == 0 else {
            throw PeerError("shutdown", errno: errno, waitedFor: "the half-close")
        }
    }

    /// Closes the socket; a second time does nothing. With received bytes unread, the kernel sends RST (tcp(7)).
    public func close() {
        let descriptor = owned.exchange(-1, ordering: .acquiringAndReleasing)
        if descriptor >= 0 { closeOwned(descriptor) }
    }

    /// Drops everything and sends RST: SO_LINGER with a time of 0, then close. A Unix socket just closes.
    public func reset() throws {
        try setOption(descriptor, SOL_SOCKET, SO_LINGER, linger(l_onoff: 1, l_linger: 0))
        close()
    }

    // MARK: Sending

    /// Sends all the bytes, or throws.
    public func send(_ bytes: [UInt8]) throws {
        let deadline = Deadline(in: timeLimit)
        try bytes.withUnsafeBytes { bytes in
            var sent = 0
            while sent < bytes.count {
                if let count = try sendNow(UnsafeRawBufferPointer(rebasing: bytes[sent...])) {
                    sent += count
                } else {
                    let waitedFor = "room for byte \(sent) of \(bytes.count)"
                    try awaitReadiness(POLLOUT, until: deadline, "send", waitedFor)
                }
            }
        }
    }

    /// Sends all the text, or throws.
    public func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// Sends until all is sent or the next byte would block; gives the count of bytes sent.
    public func sendSome(_ bytes: [UInt8]) throws -> Int {
        try bytes.withUnsafeBytes { bytes in
            var sent = 0
            while sent < bytes.count {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[sent...])
                guard let count = try sendNow(rest) else { break }
                sent += count
            }
            return sent
        }
    }

    /// Sends one byte of urgent data: MSG_OOB.
    public func sendUrgent(_ byte: UInt8) throws {
        let sent = try withUnsafeBytes(of: byte) { try sendNow($0, flags: Int32(MSG_OOB)) }
        guard sent == 1 else { throw PeerError("send", errno: EAGAIN, waitedFor: "room for an urgent byte") }
    }

    /// One send(2); `nil` if it would block.
    func sendNow(_ bytes: UnsafeRawBufferPointer, flags: Int32 = 0) throws -> Int? {
        while true {
            // The descriptor blocks, but a call must not: it would go past the time limit.
            let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT) | flags
            let count = Glibc.send(descriptor, bytes.baseAddress, bytes.count, flags)
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            case let number:
                if number == ECONNRESET { heardReset.store(true, ordering: .releasing) }
                throw PeerError("send", errno: number, waitedFor: "\(bytes.count) bytes to leave")
            }
        }
    }

    // MARK: Waiting

    /// Waits until a receive would not block: bytes, FIN or a reset are there.
    public func waitUntilReadable() throws {
        try awaitReadiness(POLLIN, until: Deadline(in: timeLimit), "poll", "something to receive")
    }

    func awaitReadiness(_ events: Int32, until deadline: Deadline, _ call: String, _ waitedFor: String) throws {
        // poll(2) skips a negative descriptor, and the wait would last to the time limit.
        guard descriptor >= 0 else { throw PeerError(call, errno: EBADF, waitedFor: waitedFor) }
        try wait(descriptor, for: events, until: deadline, call, waitedFor: waitedFor)
    }

    /// One recv(2); `nil` if it would block, 0 at the end of input.
    func receiveNow(_ bytes: UnsafeMutableRawBufferPointer, flags: Int32 = 0) throws -> Int? {
        while true {
            let count = recv(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT) | flags)
            if count == 0, heardReset.load(ordering: .acquiring) {
                throw PeerError("recv", errno: ECONNRESET, waitedFor: "up to \(bytes.count) bytes")
            }
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            case let number: throw PeerError("recv", errno: number, waitedFor: "up to \(bytes.count) bytes")
            }
        }
    }
}
