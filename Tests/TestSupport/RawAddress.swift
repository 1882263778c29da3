import Glibc

/// A socket address as the kernel takes it.
struct RawAddress {
    private(set) var storage = sockaddr_storage()
    private(set) var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

    /// An address of 127.0.0.1, ::1 or another numeric host.
    init(host: String, port: UInt16) throws {
        if host.contains(":") {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            try Self.check(inet_pton(AF_INET6, host, &address.sin6_addr), host)
            self.init(address)
        } else {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            try Self.check(inet_pton(AF_INET, host, &address.sin_addr), host)
            self.init(address)
        }
    }

    /// A path in the file system, with the zero byte that ends it (unix(7)).
    init(unixPath: String) throws {
        try self.init(unixBytes: Array(unixPath.utf8) + [0], name: unixPath)
    }

    /// A name in Linux's abstract namespace: a zero byte, then the name, and nothing after it (unix(7)).
    init(abstractName: String) throws {
        try self.init(unixBytes: [0] + Array(abstractName.utf8), name: "@" + abstractName)
    }

    /// All that `sun_path` holds, a closing NUL or a leading one included.
    init(unixBytes bytes: [UInt8], name: String) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard bytes.count <= capacity else {
            throw PeerError("sockaddr_un", errno: ENAMETOOLONG, waitedFor: "an address \(name)")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        self.init(address)
        length = socklen_t(MemoryLayout<sockaddr_un>.size - capacity + bytes.count)
    }

    private init<Address>(_ address: Address) {
        withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: address, as: Address.self) }
        length = socklen_t(MemoryLayout<Address>.size)
    }

    /// inet_pton(3) answers 1 for an address, 0 for a text that is none.
    private static func check(_ answer: Int32, _ host: String) throws {
        guard answer == 1 else {
            throw PeerError("inet_pton", errno: EINVAL, waitedFor: "an address \(host)")
        }
    }

    /// What getsockname(2) or getpeername(2) says.
    init(
        of descriptor: Int32,
        _ call: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) {
        let status = withUnsafeMutableBytes(of: &storage) { bytes in
            call(descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
        }
        if status != 0 { length = 0 }
    }

    var family: Int32 { Int32(storage.ss_family) }

    /// The TCP port; 0 for everything without one.
    var port: UInt16 {
        guard length > 0 else { return 0 }
        return withUnsafeBytes(of: storage) { bytes in
            switch family {
            case AF_INET: UInt16(bigEndian: bytes.load(as: sockaddr_in.self).sin_port)
            case AF_INET6: UInt16(bigEndian: bytes.load(as: sockaddr_in6.self).sin6_port)
            default: 0
            }
        }
    }

    /// Hands the address to bind(2) or connect(2).
    func withPointer<Answer>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Answer) -> Answer {
        withUnsafeBytes(of: storage) { bytes in
            body(bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
        }
    }
}
