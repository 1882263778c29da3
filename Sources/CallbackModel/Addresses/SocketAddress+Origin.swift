extension SocketAddress {
    /// The IPv4 address that an IPv6 one stands for: `::ffff:192.0.2.1` is `192.0.2.1`, with the same port. Every other
    /// address is itself.
    ///
    /// A listener of both families sees its IPv4 clients as mapped addresses. Use this form to compare with a list, or
    /// to log.
    ///
    /// Source: RFC 4291, section 2.5.5.2; ipv6(7).
    public var unmapped: SocketAddress {
        guard case .ipv6(high: 0, let low, _, let port) = storage, low >> 32 == 0xffff else { return self }
        return SocketAddress(.ipv4(address: UInt32(truncatingIfNeeded: low), port: port))
    }

    /// Whether it is an address of this host alone: 127.0.0.0/8, ::1, and the former as a mapped address.
    ///
    /// False for a Unix socket, which has no such address, though its peer is on this host, too.
    ///
    /// Source: RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3.
    public var isLoopback: Bool {
        switch unmapped.storage {
        case .ipv4(let address, _): address >> 24 == 127
        case .ipv6(let high, let low, _, _): high == 0 && low == 1
        case .unixPath, .unixAbstract: false
        }
    }
}
