package import Glibc

/// Where a socket is: an IPv4 or IPv6 address with a port, or the name of a Unix-domain socket.
///
/// Sources: ip(7), ipv6(7), unix(7); IPv6 text as in RFC 5952, scopes as in RFC 4007.
public struct SocketAddress: Hashable, Sendable {
    /// What kind of address it is, with its parts in host byte order.
    package enum Storage: Hashable, Sendable {
        case ipv4(address: UInt32, port: UInt16)
        case ipv6(high: UInt64, low: UInt64, scope: UInt32, port: UInt16)
        /// A path; empty for a socket that was never bound (a client's side, usually).
        case unixPath(Name)
        /// Linux's abstract namespace: a name with no file behind it (unix(7)).
        case unixAbstract(Name)
    }

    /// The name of a Unix socket, which is bytes: two texts that look the same, or are equal as strings, may be two
    /// files.
    package struct Name: Hashable, Sendable {
        package let bytes: [UInt8]

        package init(_ bytes: some Sequence<UInt8>) {
            self.bytes = Array(bytes)
        }

        /// As text; what is no UTF-8 is replaced.
        var text: String { String(decoding: bytes, as: UTF8.self) }

        /// Calls `body` with the bytes and a closing NUL, as system calls take a path.
        package func withCString<Value>(_ body: (UnsafePointer<CChar>) -> Value) -> Value {
            unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: bytes.count + 1) { buffer in
                for index in bytes.indices {
                    unsafe buffer.initializeElement(at: index, to: CChar(bitPattern: bytes[index]))
                }
                unsafe buffer.initializeElement(at: bytes.count, to: 0)
                return unsafe body(UnsafePointer(buffer.baseAddress!))
            }
        }
    }

    package let storage: Storage

    package init(_ storage: Storage) {
        self.storage = storage
    }

    /// A Unix-domain socket that was never bound.
    package static let unnamed = SocketAddress(.unixPath(Name([])))

    /// The longest path, in bytes: `sun_path` holds 108 with its closing NUL (unix(7)).
    public static let maximumPathLength = 107

    /// A peer may fill all of `sun_path`, and Linux finds the end without a NUL (unix(7)).
    static let longestOfAPeer = 108

    /// An IPv4 address in dotted form, and a port from 0 (the kernel chooses) to 65535.
    ///
    /// Throws `EINVAL` with the text or the port that cannot be one.
    public static func ipv4(_ host: String, port: Int) throws(IOError) -> SocketAddress {
        let port = try checked(port)
        var address = in_addr()
        guard !host.utf8.contains(0), unsafe inet_pton(AF_INET, host, &address) == 1 else {
            throw .invalid("inet_pton", "\"\(host)\" is no IPv4 address")
        }
        return SocketAddress(.ipv4(address: UInt32(bigEndian: address.s_addr), port: port))
    }

    /// An IPv6 address, with an optional scope as `fe80::1%eth0` or `fe80::1%2`, and a port from 0 to 65535.
    ///
    /// Throws `EINVAL` with the text or the port that cannot be one, `ENODEV` for an unknown interface.
    public static func ipv6(_ host: String, port: Int) throws(IOError) -> SocketAddress {
        let port = try checked(port)
        let parts = host.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        var address = in6_addr()
        guard !host.utf8.contains(0), unsafe inet_pton(AF_INET6, String(parts[0]), &address) == 1 else {
            throw .invalid("inet_pton", "\"\(host)\" is no IPv6 address")
        }
        var scope: UInt32 = 0
        if parts.count == 2 {
            // Digits alone: `UInt32` would take a sign, too.
            let isNumber = parts[1].utf8.allSatisfy { (0x30...0x39).contains($0) }
            scope = unsafe isNumber ? UInt32(parts[1]) ?? 0 : if_nametoindex(String(parts[1]))
            guard scope != 0 else {
                throw .invalid("if_nametoindex", "\"\(parts[1])\" is no interface", errno: ENODEV)
            }
        }
        return SocketAddress(.ipv6(address, scope: scope, port: port))
    }

    /// An IPv4 or IPv6 address from its 4 or 16 bytes in network order, as protocols carry it, and a port from 0 to
    /// 65535.
    ///
    /// Throws `EINVAL` for any other number of bytes and for the port that cannot be one.
    public init(bytes: Span<UInt8>, port: Int) throws(IOError) {
        let port = try Self.checked(port)
        var reader = ByteReader(bytes)
        switch bytes.count {
        case 4: self.init(.ipv4(address: reader.integer(UInt32.self)!, port: port))
        case 16:
            let (high, low) = (reader.integer(UInt64.self)!, reader.integer(UInt64.self)!)
            self.init(.ipv6(high: high, low: low, scope: 0, port: port))
        default: throw .invalid("parse", "\(bytes.count) bytes are no IPv4 or IPv6 address: it has 4 or 16")
        }
    }

    /// The same from an array.
    public init(bytes: [UInt8], port: Int) throws(IOError) {
        try self.init(bytes: bytes.span, port: port)
    }

    /// The path of a Unix-domain socket: 1 to 107 bytes.
    ///
    /// Throws `EINVAL` for an empty path or one with a NUL, `ENAMETOOLONG` for a longer one.
    public static func unix(path: String) throws(IOError) -> SocketAddress {
        try .unix(path: Array(path.utf8))
    }

    /// The same from the path's bytes: the name of a file need not be UTF-8.
    public static func unix(path: [UInt8]) throws(IOError) -> SocketAddress {
        guard !path.isEmpty else { throw .invalid("bind", "the path is empty") }
        guard !path.contains(0) else { throw .invalid("bind", "the path holds a NUL byte") }
        try checkLength(path, "path", limit: maximumPathLength)
        return SocketAddress(.unixPath(Name(path)))
    }

    /// A name in Linux's abstract namespace, without its leading NUL: 1 to 107 bytes, each of which counts, a NUL too.
    ///
    /// Throws `EINVAL` for an empty name, `ENAMETOOLONG` for a longer one.
    ///
    /// Source: unix(7), "Abstract sockets".
    public static func unix(abstract name: String) throws(IOError) -> SocketAddress {
        try .unix(abstract: Array(name.utf8))
    }

    /// The same from the name's bytes, which need not be UTF-8.
    public static func unix(abstract name: [UInt8]) throws(IOError) -> SocketAddress {
        guard !name.isEmpty else { throw .invalid("bind", "the abstract name is empty") }
        try checkLength(name, "abstract name", limit: maximumPathLength)
        return SocketAddress(.unixAbstract(Name(name)))
    }

    private static func checkLength(_ name: [UInt8], _ kind: String, limit: Int) throws(IOError) {
        guard name.count <= limit else {
            throw .invalid(
                "bind", "the \(kind) has \(name.count) bytes, at most \(limit) are possible", errno: ENAMETOOLONG)
        }
    }

    /// An address from its text: `127.0.0.1:80`, `[::1]:80`, `[fe80::1%eth0]:80`, `unix:/run/a.sock`, `unix:@name`.
    ///
    /// Reads back what ``description`` prints, whatever the address. In the name of a Unix socket a backslash begins an
    /// escape, as `String.init(escaping:)` writes it. `unix:` alone is a socket without a name: no socket can be bound
    /// or connected to it.
    ///
    /// Throws `EINVAL` with the text that is none of these; names are not resolved.
    public init(parsing text: String) throws(IOError) {
        // By bytes: a combining mark behind the colon would be one character with it.
        if text.utf8.starts(with: "unix:".utf8) {
            self = try .unix(escaped: text.utf8.dropFirst(5))
        } else if let colon = text.lastIndex(of: ":"), let port = Self.port(in: text[text.index(after: colon)...]) {
            let host = text[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                self = try .ipv6(String(host.dropFirst().dropLast()), port: port)
            } else {
                self = try .ipv4(String(host), port: port)
            }
        } else {
            throw .invalid("parse", "\"\(text)\" is no socket address")
        }
    }

    /// The part of a Unix address behind its colon. An `@` that is no escape makes an abstract name of it.
    private static func unix(escaped: Substring.UTF8View) throws(IOError) -> SocketAddress {
        let isAbstract = escaped.first == UInt8(ascii: "@")
        guard let name = [UInt8](unescaping: Substring(isAbstract ? escaped.dropFirst() : escaped)) else {
            throw .invalid("parse", "a backslash in \"unix:\(Substring(escaped))\" begins no escape")
        }
        if isAbstract {
            try checkLength(name, "abstract name", limit: maximumPathLength)
            return SocketAddress(.unixAbstract(Name(name)))
        }
        guard !name.contains(0) else { throw .invalid("parse", "the path holds a NUL byte") }
        try checkLength(name, "path", limit: longestOfAPeer)
        return SocketAddress(.unixPath(Name(name)))
    }

    /// `Int` alone would take a sign for part of a port.
    private static func port(in text: Substring) -> Int? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
    }

    /// The port, from 0 to 65535; `nil` for Unix-domain sockets.
    public var port: Int? {
        switch storage {
        case .ipv4(_, let port), .ipv6(_, _, _, let port): Int(port)
        case .unixPath, .unixAbstract: nil
        }
    }

    /// The address without its port: `127.0.0.1`, `fe80::1%2`; a Unix-domain socket's path, or `@` and its name.
    ///
    /// For programs, not for people: a peer chooses its path or name, and here it is not escaped, as in
    /// ``description``. Bytes that are no UTF-8 are replaced by U+FFFD; ``bytes`` has them.
    public var host: String {
        switch storage {
        case .ipv4(let address, _):
            var raw = in_addr(s_addr: address.bigEndian)
            return unsafe presentation(AF_INET, &raw)
        case .ipv6(let high, let low, let scope, _):
            var raw = unsafe unsafeBitCast((high.bigEndian, low.bigEndian), to: in6_addr.self)
            let text = unsafe presentation(AF_INET6, &raw)
            return scope == 0 ? text : "\(text)%\(scope)"
        case .unixPath(let path): return path.text
        case .unixAbstract(let name): return "@" + name.text
        }
    }

    /// What kind of address this is.
    public var family: Family {
        switch storage {
        case .ipv4: .ipv4
        case .ipv6: .ipv6
        case .unixPath, .unixAbstract: .unix
        }
    }

    /// The kinds of addresses (address_families(7)).
    public enum Family: Hashable, Sendable {
        /// AF_INET.
        case ipv4
        /// AF_INET6.
        case ipv6
        /// AF_UNIX.
        case unix
    }

    /// The address as the kernel has it: 4 or 16 bytes in network order, a Unix-domain socket's path, or its abstract
    /// name without the leading NUL.
    public var bytes: [UInt8] {
        switch storage {
        case .ipv4(let address, _): return Self.bigEndian(address)
        case .ipv6(let high, let low, _, _): return Self.bigEndian(high) + Self.bigEndian(low)
        case .unixPath(let name), .unixAbstract(let name): return name.bytes
        }
    }

    private static func bigEndian<Word: FixedWidthInteger>(_ word: Word) -> [UInt8] {
        (0..<Word.bitWidth / 8).reversed().map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
    }

    /// The same address with another port; a Unix-domain address stays as it is.
    package func with(port: UInt16) -> SocketAddress {
        switch storage {
        case .ipv4(let address, _): SocketAddress(.ipv4(address: address, port: port))
        case .ipv6(let high, let low, let scope, _):
            SocketAddress(.ipv6(high: high, low: low, scope: scope, port: port))
        case .unixPath, .unixAbstract: self
        }
    }

    /// Throws for a socket that was never bound: to bind to its address would let the kernel choose a name (unix(7)).
    func requireName(for call: String) throws(IOError) {
        if self == .unnamed { throw .invalid(call, "a socket without a name has no address") }
    }

    private static func checked(_ port: Int) throws(IOError) -> UInt16 {
        guard let port = UInt16(exactly: port) else {
            throw .invalid("htons", "port \(port) is not between 0 and 65535")
        }
        return port
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/a.sock`, `unix:@name`; `unix:` for an unnamed socket.
    ///
    /// A Unix socket's name is escaped as `String.init(escaping:limit:)` does, and the `@` at the front of a
    /// path as `\x40`. ``init(parsing:)`` reads it back.
    public var description: String {
        switch storage {
        case .ipv4(_, let port): return "\(host):\(port)"
        case .ipv6(_, _, _, let port): return "[\(host)]:\(port)"
        case .unixAbstract(let name): return "unix:@" + String(escaping: name.bytes)
        case .unixPath(let path) where path.bytes.first == UInt8(ascii: "@"):
            var text = "unix:"
            text.appendEscape(of: UInt8(ascii: "@"))
            return text + String(escaping: Array(path.bytes.dropFirst()))
        case .unixPath(let path): return "unix:" + String(escaping: path.bytes)
        }
    }
}

extension SocketAddress.Storage {
    /// An IPv6 address as the kernel holds it.
    package static func ipv6(_ raw: in6_addr, scope: UInt32, port: UInt16) -> Self {
        let words = unsafe unsafeBitCast(raw, to: (UInt64, UInt64).self)
        return .ipv6(
            high: UInt64(bigEndian: words.0), low: UInt64(bigEndian: words.1), scope: scope, port: port)
    }
}

/// inet_ntop(3), which cannot fail here: the family is known and the buffer has the longest text's size.
private func presentation(_ family: Int32, _ raw: UnsafeRawPointer) -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
        guard let text = unsafe inet_ntop(family, raw, buffer.baseAddress, socklen_t(INET6_ADDRSTRLEN)) else {
            return "?"
        }
        return unsafe String(cString: text)
    }
}
