internal import Glibc

/// What ``EventLoop/resolve(host:port:_:)`` accepts as a host. Stricter than getaddrinfo(3), which reads `127.1`,
/// `0x7f000001` and `017700000001` as numbers (inet(3)) and has its own table for punycode: a program would check one
/// host and connect to another.
package enum Host: Equatable {
    /// Its address, with port 0, or why there is none: ENODEV for a zone that is no interface.
    case number(Result<SocketAddress, IOError>)
    /// A name for the resolver.
    case name(String)

    /// RFC 1035, section 2.3.4: 255 bytes with the length bytes of the first label and of the root.
    static let longestName = 253
    /// RFC 1035, section 2.3.4.
    static let longestLabel = 63

    /// Throws EINVAL for a host that is neither.
    package init(_ host: String) throws(IOError) {
        if host.isEmpty { throw .invalid("getaddrinfo", "the host is empty") }
        if host.utf8.contains(0) { throw .host(host, "holds a NUL byte") }
        if host.utf8.contains(UInt8(ascii: ":")) {
            self = try Self.ipv6(host)
            return
        }
        if host.utf8.count > Self.longestName + 1 {
            throw .host(host, "has \(host.utf8.count) bytes, at most \(Self.longestName) are possible")
        }
        if let address = try? SocketAddress.ipv4(host, port: 0) {
            self = .number(.success(address))
            return
        }
        let labels = try Self.labels(of: host)
        if isNumber(labels[labels.count - 1]) {
            throw .host(host, "ends in a number, but is no IPv4 address of four decimal numbers")
        }
        self = .name(host)
    }

    /// Only IPv6 addresses have a colon.
    private static func ipv6(_ host: String) throws(IOError) -> Host {
        do throws(IOError) {
            return .number(.success(try .ipv6(host, port: 0)))
        } catch  where error.errno == EINVAL {
            throw .host(host, "has a colon, but is no IPv6 address")
        } catch {
            // Interfaces come and go, so this is an answer, as for a name that does not exist.
            guard let shortage = descriptorShortage() else {
                return .number(.failure(.host(host, "has a zone that is no interface", errno: error.errno)))
            }
            return .number(.failure(.host(host, "has a zone, which could not be looked up", errno: shortage)))
        }
    }

    private static func labels(of host: String) throws(IOError) -> [Substring.UTF8View] {
        var labels = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        // The dot of the root may be written.
        if labels.count > 1, labels[labels.count - 1].isEmpty { labels.removeLast() }
        if labels.reduce(labels.count - 1, { $0 + $1.count }) > longestName {
            throw .host(host, "has \(host.utf8.count) bytes, at most \(longestName) are possible")
        }
        for label in labels {
            if label.isEmpty { throw .host(host, "has an empty label") }
            if label.count > longestLabel {
                throw .host(host, "has a label of \(label.count) bytes, at most \(longestLabel) are possible")
            }
            if !label.allSatisfy(isAllowed) {
                throw .host(host, "has something else than letters, digits, \"-\" and \"_\"")
            }
            if label.first == UInt8(ascii: "-") || label.last == UInt8(ascii: "-") {
                throw .host(host, "has a label with a hyphen at its end")
            }
        }
        return labels
    }
}

private func isAllowed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"): true
    default: false
    }
}

/// Whether a last label makes a host a number: decimal or octal digits, or `0x` and hexadecimal ones, also none (WHATWG
/// URL, "ends in a number").
private func isNumber(_ label: Substring.UTF8View) -> Bool {
    let isDecimal = { (byte: UInt8) in (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    if label.allSatisfy(isDecimal) { return true }
    guard label.first == UInt8(ascii: "0"), let mark = label.dropFirst().first, mark | 0x20 == UInt8(ascii: "x") else {
        return false
    }
    return label.dropFirst(2).allSatisfy {
        isDecimal($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0 | 0x20)
    }
}

extension IOError {
    /// What is wrong with a host, which is shown as far as it is of use.
    fileprivate static func host(_ host: String, _ fault: String, errno: Int32 = EINVAL) -> IOError {
        let most = 80
        let shown = host.unicodeScalars.prefix(most).map { $0.escaped(asASCII: true) }.joined()
        let rest = host.unicodeScalars.dropFirst(most).isEmpty ? "" : "..."
        return .invalid("getaddrinfo", "host \"\(shown)\(rest)\" \(fault)", errno: errno)
    }
}
