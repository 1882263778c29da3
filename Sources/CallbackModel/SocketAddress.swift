package import Glibc

/// Where a socket is: an IPv4 or IPv6 address with a port, or the name of a Unix-domain socket.
///
/// Sources: ip(7), ipv6(7), unix(7); IPv6 text as in RFC 5952, scopes as in RFC 4007.
public struct SocketAddress: Hashable, Sendable {
    /// What kind of address it is, with its parts in host byte order.
    package enum Storage: Hashable, Sendable {
        case ipv4(address: UInt32, port: UInt16)
        case ipv6(high: UInt64, low: UInt64, scope: UInt32, port: UInt16)
        /// A path, or nothing for a socket that was never bound (a client's side, usually).
        case unixPath(String)
        /// Linux's abstract namespace: a name with no file behind it (unix(7)).
        case unixAbstract(String)
    }

    package let storage: Storage

    package init(_ storage: Storage) {
        self.storage = storage
    }

    /// A Unix-domain socket that was never bound.
    package static let unnamed = SocketAddress(.unixPath(""))

    /// The longest path, in bytes: `sun_path` holds 108 with its closing NUL (unix(7)).
    public static let maximumPathLength = 107

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
            scope = unsafe UInt32(parts[1]) ?? if_nametoindex(String(parts[1]))
            guard scope != 0 else {
                throw .invalid("if_nametoindex", "\"\(parts[1])\" is no interface", errno: ENODEV)
            }
        }
        return SocketAddress(.ipv6(address, scope: scope, port: port))
    }

    /// The path of a Unix-domain socket: 1 to 107 bytes.
    ///
    /// Throws `EINVAL` for an empty path or one with a NUL, `ENAMETOOLONG` for a longer one.
    public static func unix(path: String) throws(IOError) -> SocketAddress {
        SocketAddress(.unixPath(try checkedName(path, "path")))
    }

    /// A name in Linux's abstract namespace, without its leading NUL: 1 to 107 bytes.
    ///
    /// Throws like ``unix(path:)``.
    public static func unix(abstract name: String) throws(IOError) -> SocketAddress {
        SocketAddress(.unixAbstract(try checkedName(name, "abstract name")))
    }

    /// An address from its text: `127.0.0.1:80`, `[::1]:80`, `[fe80::1%eth0]:80`, `unix:/run/a.sock`, `unix:@name`.
    ///
    /// Reads what ``description`` prints. Throws `EINVAL` with the text that is none of these; names are not
    /// resolved.
    public init(parsing text: String) throws(IOError) {
        if text.hasPrefix("unix:@") {
            self = try .unix(abstract: String(text.dropFirst(6)))
        } else if text.hasPrefix("unix:") {
            self = try .unix(path: String(text.dropFirst(5)))
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

    /// `Int` alone would take a sign for part of a port.
    private static func port(in text: Substring) -> Int? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
    }

    /// The port, from 0 to 65535; nothing for Unix-domain sockets.
    public var port: Int? {
        switch storage {
        case .ipv4(_, let port), .ipv6(_, _, _, let port): Int(port)
        case .unixPath, .unixAbstract: nil
        }
    }

    /// The address without its port: `127.0.0.1`, `fe80::1%2`; a Unix-domain socket's path, or `@` and its name.
    public var host: String {
        switch storage {
        case .ipv4(let address, _):
            var raw = in_addr(s_addr: address.bigEndian)
            return unsafe presentation(AF_INET, &raw)
        case .ipv6(let high, let low, let scope, _):
            var raw = unsafe unsafeBitCast((high.bigEndian, low.bigEndian), to: in6_addr.self)
            let text = unsafe presentation(AF_INET6, &raw)
            return scope == 0 ? text : "\(text)%\(scope)"
        case .unixPath(let path): return path
        case .unixAbstract(let name): return "@" + name
        }
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

    private static func checked(_ port: Int) throws(IOError) -> UInt16 {
        guard let port = UInt16(exactly: port) else {
            throw .invalid("htons", "port \(port) is not between 0 and 65535")
        }
        return port
    }

    private static func checkedName(_ name: String, _ kind: String) throws(IOError) -> String {
        guard !name.isEmpty else { throw .invalid("bind", "the \(kind) is empty") }
        guard !name.utf8.contains(0) else { throw .invalid("bind", "the \(kind) holds a NUL byte") }
        guard name.utf8.count <= maximumPathLength else {
            throw .invalid(
                "bind", "the \(kind) has \(name.utf8.count) bytes, at most \(maximumPathLength) are possible",
                errno: ENAMETOOLONG)
        }
        return name
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/a.sock`, `unix:@name`; `unix:` for an unnamed socket.
    public var description: String {
        switch storage {
        case .ipv4(_, let port): "\(host):\(port)"
        case .ipv6(_, _, _, let port): "[\(host)]:\(port)"
        case .unixPath, .unixAbstract: "unix:\(host)"
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
