import Foundation

/// A call that failed, or a peer that did what it should not (EPROTO).
struct ClientError: Error, CustomStringConvertible {
    let call: String
    let errno: Int32

    var description: String {
        errno == EPROTO ? "\(call): not what was expected" : "\(call): \(String(cString: strerror(errno)))"
    }
}

/// A blocking socket with a time limit on each call: a plain client, which shares no code with the engines.
final class Client {
    private(set) var descriptor: Int32

    /// At most so much is received at a time.
    private static let mostReceived = 65_536
    /// A call that takes longer has lost what it waited for: long enough for a machine that others load as well.
    private static let limit = timeval(tv_sec: 20, tv_usec: 0)

    /// Takes over a connected socket.
    init(descriptor: Int32) {
        self.descriptor = descriptor
        setTimeLimit()
    }

    /// Connects from 127.0.0.`source`. Over several sources there are enough ports: a closed connection keeps its own
    /// from its address for a minute (TIME_WAIT).
    init(port: UInt16, source: Int = 1, kernelBuffers: Int32? = nil) throws {
        descriptor = try check(
            "socket", socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        setTimeLimit()
        set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        if let kernelBuffers {
            set(SOL_SOCKET, SO_SNDBUF, kernelBuffers)
            set(SOL_SOCKET, SO_RCVBUF, kernelBuffers)
        }
        do {
            if source != 1 {
                // The port is chosen at connect, when it need be unique for this pair of addresses only (ip(7)).
                set(Int32(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, 1)
                try withAddress(host: source, port: 0) { try check("bind", bind(descriptor, $0, $1)) }
            }
            try withAddress(host: 1, port: port) { try check("connect", connect(descriptor, $0, $1)) }
        } catch {
            close()
            throw error
        }
    }

    /// Connects to a Unix socket's file.
    init(unixPath: String) throws {
        descriptor = try check(
            "socket", socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        setTimeLimit()
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: unixPath.utf8.prefix($0.count - 1)) }
        do {
            try withUnsafePointer(to: &address) {
                try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = try check("connect", connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)))
                }
            }
        } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    private func setTimeLimit() {
        var limit = Self.limit
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    private func set(_ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    // MARK: Sending

    func send(_ bytes: some Sequence<UInt8>) throws {
        var rest = ContiguousArray(bytes)[...]
        while !rest.isEmpty { rest = rest.dropFirst(try sendSome(rest)) }
    }

    /// Sends what the kernel takes; with `waits` false, perhaps nothing.
    func sendSome(_ bytes: ContiguousArray<UInt8>.SubSequence, waits: Bool = true) throws -> Int {
        let flags = Int32(MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT))
        let count = bytes.withUnsafeBytes { Foundation.send(descriptor, $0.baseAddress, $0.count, flags) }
        if count >= 0 { return count }
        if !waits, errno == EAGAIN || errno == EINTR { return 0 }
        throw ClientError(call: "send", errno: errno)
    }

    // MARK: Receiving

    /// What has come, up to 64 KiB; nothing at the end of input.
    func receiveSome(atMost limit: Int = .max) throws -> ArraySlice<UInt8> {
        try received(atMost: limit, flags: 0) ?? []
    }

    /// What is there already; nil for nothing yet, empty for the end of input.
    func receiveWithoutWaiting(atMost limit: Int = .max) throws -> ArraySlice<UInt8>? {
        try received(atMost: limit, flags: Int32(MSG_DONTWAIT))
    }

    private func received(atMost limit: Int, flags: Int32) throws -> ArraySlice<UInt8>? {
        var result = 0
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: min(limit, Self.mostReceived)) { buffer, count in
            result = recv(descriptor, buffer.baseAddress, buffer.count, flags)
            failure = errno
            count = max(0, result)
        }
        if result >= 0 { return bytes[...] }
        if flags != 0, failure == EAGAIN || failure == EINTR { return nil }
        throw ClientError(call: "recv", errno: failure)
    }

    /// Receives exactly what is expected.
    func receive(_ expected: ArraySlice<UInt8>) throws {
        var rest = expected
        while !rest.isEmpty {
            let bytes = try receiveSome(atMost: rest.count)
            guard !bytes.isEmpty else { throw ClientError(call: "the answer ended early", errno: EPROTO) }
            guard bytes.elementsEqual(rest.prefix(bytes.count)) else {
                throw ClientError(call: "the answer", errno: EPROTO)
            }
            rest = rest.dropFirst(bytes.count)
        }
    }

    /// Receives the end of input, and nothing before it.
    func receiveEnd() throws {
        guard try receiveSome().isEmpty else { throw ClientError(call: "the end", errno: EPROTO) }
    }

    func receiveLine() throws -> String {
        var line: [UInt8] = []
        while true {
            let bytes = try receiveSome(atMost: 1)
            guard let byte = bytes.first else { throw ClientError(call: "a line", errno: ECONNRESET) }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
    }

    // MARK: Both

    /// Sends the bytes and receives them back, both at a time, so that neither side waits for the other.
    func exchange(_ pattern: Pattern, from start: Int, count: Int) throws {
        var sent = start
        var received = start
        while received < start + count {
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if sent < start + count { entry.events |= Int16(POLLOUT) }
            guard poll(&entry, 1, Int32(Self.limit.tv_sec) * 1_000) > 0 else {
                throw ClientError(call: "poll", errno: EAGAIN)
            }
            if entry.revents & Int16(POLLOUT) != 0 {
                sent += try sendSome(pattern.bytes(at: sent, count: start + count - sent), waits: false)
            }
            guard let bytes = try receiveWithoutWaiting() else { continue }
            guard !bytes.isEmpty, pattern.matches(bytes, at: received) else {
                throw ClientError(call: "the answer at byte \(received)", errno: EPROTO)
            }
            received += bytes.count
        }
    }

    // MARK: Ending

    func halfClose() throws { try check("shutdown", shutdown(descriptor, Int32(SHUT_WR))) }

    /// Closes with RST (SO_LINGER of 0 seconds, socket(7)).
    func reset() {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    func close() {
        if descriptor >= 0 { Foundation.close(descriptor) }
        descriptor = -1
    }
}

@discardableResult
func check(_ call: String, _ result: Int32) throws -> Int32 {
    guard result >= 0 else { throw ClientError(call: call, errno: errno) }
    return result
}

@discardableResult
private func withAddress<Answer>(
    host: Int, port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Answer
) rethrows -> Answer {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = (0x7F00_0000 + UInt32(host)).bigEndian
    return try withUnsafePointer(to: &address) {
        try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            try body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
}
