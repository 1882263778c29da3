internal import CLinux
package import CallbackModel
internal import Glibc

/// What a peer could not do.
package struct PeerFailure: Error {
    package let call: String
    /// The errno; 0 for a time limit.
    package let errno: Int32

    /// FIN came without the end of the layer above it.
    package static let truncation = PeerFailure(call: "recv", errno: EBADMSG)

    var isTruncation: Bool { errno == EBADMSG }

    /// ENOTCONN is what shutdown(2) says once a reset has been told.
    var isReset: Bool { errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN }

    package init(call: String, errno: Int32) {
        self.call = call
        self.errno = errno
    }

    package var description: String {
        errno == 0 ? "\(call): the time limit has passed" : IOError(call: call, errno: errno).description
    }
}

/// A peer's socket: every call ends by `deadline`. It shares no code with the engines, whose witness it is.
package final class PeerSocket {
    package let descriptor: Int32
    private var isOpen = true
    /// What it speaks, if not plain bytes.
    private var layer: (any PeerLayer)?
    package var deadline: ContinuousClock.Instant

    package init(adopting descriptor: Int32, until deadline: ContinuousClock.Instant) {
        self.descriptor = descriptor
        self.deadline = deadline
    }

    /// A socket for `address` that is not connected yet.
    package convenience init(for address: SocketAddress, until deadline: ContinuousClock.Instant) throws(PeerFailure) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(address.family.number, type, 0)
        guard descriptor >= 0 else { throw PeerFailure(call: "socket", errno: errno) }
        self.init(adopting: descriptor, until: deadline)
        if address.family != .unix { set(Int32(IPPROTO_TCP), TCP_NODELAY, Int32(1)) }
    }

    deinit { close() }

    package func set<Value: BitwiseCopyable>(_ level: Int32, _ option: Int32, _ value: Value) {
        var value = value
        _ = unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Value>.size))
    }

    package func setBuffers(receive: Int?, send: Int?) {
        if let receive { set(SOL_SOCKET, SO_RCVBUF, Int32(clamping: receive)) }
        if let send { set(SOL_SOCKET, SO_SNDBUF, Int32(clamping: send)) }
    }

    // MARK: Names

    /// Takes a name of its own before connecting, by which the other side can tell whose connection it accepts.
    package func takeName(_ address: SocketAddress, number: Int) throws(PeerFailure) -> String {
        switch address.family {
        case .ipv4:
            // A loopback address for each peer, and a port chosen at connect, so that none is used up (ip(7)).
            let ipBindAddressNoPort: Int32 = 24
            set(Int32(IPPROTO_IP), ipBindAddressNoPort, Int32(1))
            try bind(to: .loopback(number: number))
            return try localAddress().host
        case .unix:
            var unnamed = sockaddr_un()
            unnamed.sun_family = sa_family_t(AF_UNIX)
            // Without a name: the kernel gives one in the abstract namespace (unix(7), "Autobind feature").
            let status = unsafe withUnsafePointer(to: &unnamed) { unnamed in
                unsafe unnamed.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<sa_family_t>.size))
                }
            }
            guard status == 0 else { throw PeerFailure(call: "bind", errno: errno) }
            return try localAddress().host
        default:
            try bind(to: address.with(port: 0))
            return try localAddress().description
        }
    }

    package func bind(to address: SocketAddress) throws(PeerFailure) {
        set(SOL_SOCKET, SO_REUSEADDR, Int32(1))
        let status = unsafe address.withSockaddr { unsafe Glibc.bind(descriptor, $0, $1) == 0 ? 0 : errno }
        guard status == 0 else { throw PeerFailure(call: "bind", errno: status) }
    }

    package func localAddress() throws(PeerFailure) -> SocketAddress {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe getsockname(descriptor, address, &length) == 0 ? 0 : errno
            }
        }
        guard status == 0, let address = SocketAddress(storage, length: length) else {
            throw PeerFailure(call: "getsockname", errno: status)
        }
        return address
    }

    // MARK: Connecting

    package func connect(to address: SocketAddress) throws(PeerFailure) {
        while true {
            let error = unsafe address.withSockaddr { unsafe Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
            switch error {
            case 0, EISCONN: return
            case EINTR: continue
            case EINPROGRESS, EALREADY:
                try wait(POLLOUT, "connect")
                var error: Int32 = 0
                var length = socklen_t(MemoryLayout<Int32>.size)
                unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
                guard error == 0 else { throw PeerFailure(call: "connect", errno: error) }
                return
            // A Unix socket's backlog is full: poll(2) cannot tell when it no longer is.
            case EAGAIN: guard ContinuousClock.now < deadline else { throw PeerFailure(call: "connect", errno: 0) }
            case let error: throw PeerFailure(call: "connect", errno: error)
            }
        }
    }

    package func listen(backlog: Int32) throws(PeerFailure) {
        guard Glibc.listen(descriptor, backlog) == 0 else { throw PeerFailure(call: "listen", errno: errno) }
    }

    package func accept() throws(PeerFailure) -> PeerSocket {
        while true {
            try wait(POLLIN, "accept")
            // Not accept(2): a child that is spawned meanwhile would inherit the socket, and hold back its FIN.
            let client = linux_accept4(descriptor, nil, nil)
            if client >= 0 {
                return PeerSocket(adopting: client, until: deadline)
            }
            guard errno == EINTR || errno == EAGAIN else { throw PeerFailure(call: "accept", errno: errno) }
        }
    }

    // MARK: Bytes

    /// From now on it speaks `layer`, which begins: at once, or if it does not `wait`, in the course of later calls.
    package func speak(_ layer: any PeerLayer, waits: Bool = true) throws(PeerFailure) {
        self.layer = layer
        if waits { try layer.begin() }
    }

    /// Goes on with what its layer has to do before the first byte.
    package func advance() { layer?.advance() }

    /// Sends what the kernel takes; nothing if it takes none now.
    ///
    /// A result, since the functions that lend an array's bytes know no typed errors.
    package func send(_ bytes: UnsafeRawBufferPointer) -> Result<Int?, PeerFailure> {
        unsafe layer?.send(bytes) ?? sendPlain(bytes)
    }

    /// The same past the layer.
    package func sendPlain(_ bytes: UnsafeRawBufferPointer, flags: Int32 = 0) -> Result<Int?, PeerFailure> {
        while true {
            let count = unsafe Glibc.send(
                descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT) | flags)
            if count >= 0 { return .success(count) }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .success(nil)
            case let error: return .failure(PeerFailure(call: "send", errno: error))
            }
        }
    }

    /// Receives what is there, at most so much; nothing if it is nothing now, 0 at the end.
    package func receive(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int?, PeerFailure> {
        unsafe layer?.receive(bytes) ?? receivePlain(bytes)
    }

    /// The same past the layer.
    package func receivePlain(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int?, PeerFailure> {
        while true {
            let count = unsafe recv(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT))
            if count >= 0 { return .success(count) }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .success(nil)
            case let error: return .failure(PeerFailure(call: "recv", errno: error))
            }
        }
    }

    package func wait(_ events: Int32, _ call: String) throws(PeerFailure) {
        if events & POLLIN != 0, layer?.hasInput == true { return }
        guard awaitReadiness(of: descriptor, events, until: deadline) else { throw PeerFailure(call: call, errno: 0) }
    }

    // MARK: Ending

    package func shutDown(_ how: Int, mayWait: Bool = true) throws(PeerFailure) {
        if how == SHUT_WR { try layer?.end(mayWait: mayWait) }
        guard shutdown(descriptor, Int32(how)) == 0 else { throw PeerFailure(call: "shutdown", errno: errno) }
    }

    package func reset() {
        layer = nil
        set(SOL_SOCKET, SO_LINGER, linger(l_onoff: 1, l_linger: 0))
        close()
    }

    /// Gives the descriptor away, for somebody else to close.
    package func surrender() -> Int32 {
        isOpen = false
        return descriptor
    }

    /// Another descriptor of the same socket, which the caller owns; -1 if there is none left.
    package func duplicate() -> Int32 {
        fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    }

    package func close() {
        // Who has gone already need not be told.
        try? layer?.end(mayWait: false)
        layer = nil
        // Not tried again: Linux has closed it also when it says EINTR (close(2)).
        if isOpen { _ = Glibc.close(descriptor) }
        isOpen = false
    }
}

extension SocketAddress {
    /// The loopback address of the peer with this number: 127.1.0.1 for the first; all of 127.0.0.0/8 is loopback.
    package static func loopback(number: Int) throws(PeerFailure) -> SocketAddress {
        do throws(IOError) {
            return try .ipv4("127.1.\(number / 250).\(number % 250 + 1)", port: 0)
        } catch {
            throw PeerFailure(call: error.call, errno: error.errno)
        }
    }
}
