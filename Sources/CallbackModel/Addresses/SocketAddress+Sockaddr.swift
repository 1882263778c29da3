package import Glibc

// Between an address and the `sockaddr` that system calls take: pure functions, shared by the engines.

extension SocketAddress {
    /// Calls `body` with the address as bind(2) and connect(2) take it.
    package func withSockaddr<Value>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        var storage = sockaddr_storage()
        return unsafe withUnsafeMutableBytes(of: &storage) { raw in
            let length = unsafe fill(raw)
            let address = unsafe raw.assumingMemoryBound(to: sockaddr.self)
            return unsafe body(UnsafePointer(address.baseAddress!), socklen_t(length))
        }
    }

    /// Writes the address into zeroed `raw` and returns its length. The longest name has room: 108 bytes of 126.
    private func fill(_ raw: UnsafeMutableRawBufferPointer) -> Int {
        switch storage {
        case .ipv4(let address, let port):
            let value = sockaddr_in(
                sin_family: sa_family_t(AF_INET), sin_port: port.bigEndian,
                sin_addr: in_addr(s_addr: address.bigEndian), sin_zero: (0, 0, 0, 0, 0, 0, 0, 0))
            unsafe raw.storeBytes(of: value, as: sockaddr_in.self)
            return MemoryLayout<sockaddr_in>.size
        case .ipv6(let high, let low, let scope, let port):
            let bytes = unsafe unsafeBitCast((high.bigEndian, low.bigEndian), to: in6_addr.self)
            let value = sockaddr_in6(
                sin6_family: sa_family_t(AF_INET6), sin6_port: port.bigEndian, sin6_flowinfo: 0,
                sin6_addr: bytes, sin6_scope_id: scope)
            unsafe raw.storeBytes(of: value, as: sockaddr_in6.self)
            return MemoryLayout<sockaddr_in6>.size
        case .unixPath(let path):
            unsafe raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
            unsafe raw[Self.pathOffset...].copyBytes(from: path.bytes)
            // With its closing NUL, but for no path at all: two bytes mean "unnamed" (unix(7)). A path that fills
            // `sun_path` has no NUL; a longer address would be refused.
            let length = Self.pathOffset + (path.bytes.isEmpty ? 0 : path.bytes.count + 1)
            return min(MemoryLayout<sockaddr_un>.size, length)
        case .unixAbstract(let name):
            unsafe raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
            let start = Self.pathOffset + 1
            unsafe raw[start...].copyBytes(from: name.bytes)
            // Every byte counts in an abstract name, a closing NUL too (unix(7)).
            return start + name.bytes.count
        }
    }

    /// Where `sun_path` begins.
    private static let pathOffset = MemoryLayout<sa_family_t>.size

    /// What accept(2), getsockname(2) or getpeername(2) filled in; `nil` for another family.
    package init?(_ storage: sockaddr_storage, length: socklen_t) {
        let made: Storage? = unsafe withUnsafeBytes(of: storage) { raw in
            switch Int32(storage.ss_family) {
            case AF_INET:
                let value = unsafe raw.loadUnaligned(as: sockaddr_in.self)
                return .ipv4(
                    address: UInt32(bigEndian: value.sin_addr.s_addr), port: UInt16(bigEndian: value.sin_port))
            case AF_INET6:
                let value = unsafe raw.loadUnaligned(as: sockaddr_in6.self)
                return .ipv6(
                    value.sin6_addr, scope: value.sin6_scope_id, port: UInt16(bigEndian: value.sin6_port))
            case AF_UNIX:
                // No name is longer than `sun_path`, whatever length is told.
                let end = min(Int(length), Self.pathOffset + Self.longestOfAPeer)
                guard end > Self.pathOffset else { return .unixPath(Name([])) }
                let path = unsafe raw[Self.pathOffset..<end]
                if unsafe path.first == 0 { return unsafe .unixAbstract(Name(path.dropFirst())) }
                return unsafe .unixPath(Name(path.prefix { $0 != 0 }))
            default:
                return nil
            }
        }
        guard let made else { return nil }
        self.init(made)
    }
}

extension SocketAddress.Family {
    /// The number that socket(2) takes.
    package var number: Int32 {
        switch self {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix: AF_UNIX
        }
    }
}
