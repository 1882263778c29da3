import Glibc
import TestSupport
import Testing

@testable import CallbackModel

@Suite struct `Socket addresses` {
    @Test(
        arguments: [
            ("127.0.0.1:80", "127.0.0.1", 80), ("0.0.0.0:0", "0.0.0.0", 0),
            ("255.255.255.255:65535", "255.255.255.255", 65535),
            ("[::]:0", "::", 0), ("[::1]:8080", "::1", 8080),
            ("[2001:db8::ff00:42:8329]:1", "2001:db8::ff00:42:8329", 1),
            ("[::ffff:192.0.2.1]:53", "::ffff:192.0.2.1", 53), ("[fe80::1%1]:80", "fe80::1%1", 80),
            ("[fe80::1%4294967295]:80", "fe80::1%4294967295", 80),
            ("unix:/run/a.sock", "/run/a.sock", nil), ("unix:relative path", "relative path", nil),
            ("unix:@name", "@name", nil), ("unix:/tmp/ünïcode", "/tmp/ünïcode", nil), ("unix:@a:80", "@a:80", nil),
            // A file whose name begins like an abstract one, and names that escape.
            ("unix:\\x40run", "@run", nil), ("unix:@@run", "@@run", nil), ("unix:/a\\nb\\\\c", "/a\nb\\c", nil),
            ("unix:@a\\u{0}b", "@a\0b", nil), ("unix:\\u{301}a", "\u{301}a", nil), ("unix:/a@b", "/a@b", nil),
            // A socket without a name, and one whose abstract name is empty.
            ("unix:", "", nil), ("unix:@", "@", nil),
        ] as [(String, String, Int?)])
    func `what is parsed is printed the same`(text: String, host: String, port: Int?) throws {
        let address = try SocketAddress(parsing: text)
        #expect(address.description == text)
        #expect(address.host == host)
        #expect(address.port == port)
        #expect(try SocketAddress(parsing: address.description) == address)
    }

    /// Source: RFC 5952, section 4, in which longer spellings have one short form.
    @Test(arguments: [
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"), ("0:0:0:0:0:0:0:0", "::"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("::FFFF:1.2.3.4", "::ffff:1.2.3.4"),
    ])
    func `an IPv6 address is printed in its one form`(given: String, printed: String) throws {
        let address = try SocketAddress.ipv6(given, port: 1)
        #expect(address.host == printed)
        #expect(try address == .ipv6(printed, port: 1))
        #expect(try Set([address, .ipv6(printed, port: 1)]).count == 1)
    }

    @Test func `an interface's name is a scope`() throws {
        let index = if_nametoindex("lo")
        try #require(index > 0)
        let address = try SocketAddress.ipv6("fe80::1%lo", port: 80)
        #expect(address.description == "[fe80::1%\(index)]:80")
    }

    @Test(arguments: [
        "", ":", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:+80", "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999", "127.0.0.1: 80", "1.2.3:80", "256.1.1.1:80", "1.2.3.4.5:80", "localhost:80",
        "::1:80:x", "[::1]", "[::1]:", "[::1:80", "[::g]:80", "[127.0.0.1]:80", "::1]:80",
        "unix:a\0b", "unix:a\\u{0}b", "unix:\\x00", "unix:a\\b", "unix:@a\\", "127.0.0.1\0:80", "[::1\0]:80", "UNIX:/a",
    ])
    func `a text that is no address is refused with its reason`(text: String) {
        #expect {
            _ = try SocketAddress(parsing: text)
        } throws: { error in
            let error = error as? IOError
            return error?.errno == EINVAL && error?.detail?.isEmpty == false
        }
    }

    @Test(arguments: [Int.min, -1, 65_536, 70_000, Int.max])
    func `a port beyond 16 bits is named`(port: Int) {
        for isIPv6 in [false, true] {
            #expect {
                _ = isIPv6 ? try SocketAddress.ipv6("::1", port: port) : try SocketAddress.ipv4("::1", port: port)
            } throws: { error in
                let error = error as? IOError
                return error?.errno == EINVAL && error?.detail == "port \(port) is not between 0 and 65535"
            }
        }
    }

    @Test(arguments: [("", EINVAL), ("a\0b", EINVAL), (String(repeating: "x", count: 108), ENAMETOOLONG)])
    func `a path or a name that the kernel has no room for is refused`(name: String, errno: Int32) throws {
        #expect { _ = try SocketAddress.unix(path: name) } throws: { ($0 as? IOError)?.errno == errno }
        // Every byte of an abstract name counts, a NUL too.
        if name.utf8.contains(0) {
            #expect(try SocketAddress.unix(abstract: name).bytes == Array(name.utf8))
        } else {
            #expect { _ = try SocketAddress.unix(abstract: name) } throws: { ($0 as? IOError)?.errno == errno }
        }
    }

    /// A file system compares bytes: these look the same, and are two files.
    @Test func `names are compared by their bytes`() throws {
        #expect("\u{e9}" == "e\u{301}")
        #expect(try SocketAddress.unix(path: "\u{e9}") != .unix(path: "e\u{301}"))
        #expect(try SocketAddress.unix(abstract: "\u{e9}") != .unix(abstract: "e\u{301}"))
        #expect(try Set([SocketAddress.unix(path: "\u{e9}"), .unix(path: "e\u{301}")]).count == 2)
        #expect(try SocketAddress.unix(abstract: [0xff]) != .unix(abstract: [0xfe]))
        #expect(try SocketAddress.unix(path: "é") == .unix(path: Array("é".utf8)))
        #expect(try SocketAddress.unix(path: "a") != .unix(abstract: "a"))
    }

    @Test func `the bytes are those of the kernel`() throws {
        #expect(try SocketAddress.ipv4("1.2.3.4", port: 5).bytes == [1, 2, 3, 4])
        #expect(try SocketAddress.ipv6("102::f", port: 5).bytes == [1, 2] + [UInt8](repeating: 0, count: 13) + [15])
        #expect(try SocketAddress.unix(path: [0x61, 0xff]).bytes == [0x61, 0xff])
    }

    /// Whatever the kernel may tell of a peer: any address, any scope, any bytes that a name may have.
    @Test func `every address reads back as itself`() throws {
        let letters = Array("@\\\\ux4{}0a\n\u{301}\u{202e}:[".utf8)
        for seed in UInt64(1)...4_000 {
            let bytes = pseudoRandomBytes(count: 108, seed: seed)
            let number = UInt64(littleEndianBytes: bytes.prefix(8))
            var name = Array(bytes.prefix(Int(seed / 4) % 109))
            // Names that are much like text and like escapes, too.
            if seed % 8 > 3 { name = name.map { letters[Int($0) % letters.count] } }
            let address =
                switch seed % 4 {
                case 0: SocketAddress(.ipv4(address: UInt32(truncatingIfNeeded: number), port: UInt16(name.count)))
                case 1:
                    SocketAddress(
                        .ipv6(
                            high: seed % 8 == 1 ? number : 0xfe80 << 48, low: number &* 7,
                            scope: seed % 16 > 7 ? UInt32(truncatingIfNeeded: number) : 0, port: UInt16(name.count)))
                case 2: SocketAddress(.unixPath(.init(name.filter { $0 != 0 })))
                default: SocketAddress(.unixAbstract(.init(name.prefix(107))))
                }
            let text = address.description
            #expect(try SocketAddress(parsing: text) == address, "seed \(seed): \(text)")
            #expect(!text.utf8.contains { $0 < 0x20 || $0 == 0x7f })
        }
    }

    @Test func `the length of a path is counted in bytes`() throws {
        let longest = String(repeating: "é", count: 53) + "x"
        #expect(longest.utf8.count == SocketAddress.maximumPathLength)
        #expect(try SocketAddress.unix(path: longest).host == longest)
        #expect { _ = try SocketAddress.unix(path: longest + "x") } throws: { error in
            (error as? IOError)?.detail == "the path has 108 bytes, at most 107 are possible"
        }
    }

    @Test(arguments: [
        ("fe80::1%", ENODEV), ("fe80::1%0", ENODEV), ("fe80::1%no-such-interface", ENODEV), ("%1", EINVAL),
        ("fe80::1%+1", ENODEV), ("fe80::1%4294967296", ENODEV), ("fe80::1%1%2", ENODEV),
    ])
    func `a scope that is no interface is refused`(host: String, errno: Int32) {
        #expect { _ = try SocketAddress.ipv6(host, port: 1) } throws: { ($0 as? IOError)?.errno == errno }
    }

    /// Source: RFC 4291, section 2.5.5.2; the last three only look like it.
    @Test(arguments: [
        ("[::ffff:192.0.2.1]:53", "192.0.2.1:53"), ("[::ffff:0:0]:0", "0.0.0.0:0"), ("192.0.2.1:53", "192.0.2.1:53"),
        ("[::1]:53", "[::1]:53"), ("unix:/a", "unix:/a"), ("[::192.0.2.1]:53", "[::192.0.2.1]:53"),
        ("[1::ffff:192.0.2.1]:53", "[1::ffff:c000:201]:53"), ("[::1:ffff:192.0.2.1]:53", "[::1:ffff:c000:201]:53"),
    ])
    func `a mapped address is told as the IPv4 address it stands for`(text: String, unmapped: String) throws {
        #expect(try SocketAddress(parsing: text).unmapped.description == unmapped)
    }

    @Test(arguments: [
        ("127.0.0.1:1", true), ("127.255.255.255:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true),
        ("126.255.255.255:1", false), ("128.0.0.0:1", false), ("0.0.0.0:1", false), ("[::]:1", false),
        ("[::2]:1", false), ("[1::1]:1", false), ("[::ffff:128.0.0.1]:1", false), ("[::127.0.0.1]:1", false),
        ("unix:/a", false), ("unix:@a", false), ("unix:", false),
    ])
    func `loopback addresses are told from others`(text: String, isLoopback: Bool) throws {
        #expect(try SocketAddress(parsing: text).isLoopback == isLoopback)
    }

    @Test func `only the port is changed, and only where there is one`() throws {
        #expect(try SocketAddress(parsing: "1.2.3.4:5").with(port: 6).description == "1.2.3.4:6")
        #expect(try SocketAddress(parsing: "[fe80::1%3]:5").with(port: 6).description == "[fe80::1%3]:6")
        #expect(try SocketAddress(parsing: "unix:@a").with(port: 6).description == "unix:@a")
    }
}

@Suite struct `Addresses as the kernel takes them` {
    /// The type is written down because the compiler takes ten seconds to find it.
    private static let lengths: [(text: String, family: Int32, length: Int)] = [
        ("127.0.0.1:80", AF_INET, 16), ("255.1.2.3:65535", AF_INET, 16), ("[::1]:8080", AF_INET6, 28),
        ("[fe80::1%7]:1", AF_INET6, 28),
        // The family, the path and its closing NUL; the family, a NUL and the name (unix(7)).
        ("unix:/a", AF_UNIX, 5), ("unix:@name", AF_UNIX, 7),
        ("unix:" + String(repeating: "x", count: 107), AF_UNIX, 110),
        ("unix:@" + String(repeating: "x", count: 107), AF_UNIX, 110),
    ]

    @Test(arguments: lengths)
    func `to a sockaddr and back`(text: String, family: Int32, length: Int) throws {
        let address = try SocketAddress(parsing: text)
        #expect(address.family.number == family)
        let (storage, storedLength) = stored(address)
        #expect(Int32(storage.ss_family) == family)
        #expect(Int(storedLength) == length)
        #expect(SocketAddress(storage, length: storedLength) == address)
    }

    @Test func `a sockaddr is in network byte order`() throws {
        let bytes = withUnsafeBytes(of: stored(try .ipv4("1.2.3.4", port: 0x1234)).storage) { Array($0.prefix(8)) }
        #expect(Array(bytes[2...]) == [0x12, 0x34, 1, 2, 3, 4])
        let six = withUnsafeBytes(of: stored(try .ipv6("102:304::f", port: 0x1234)).storage) { Array($0.prefix(24)) }
        #expect(Array(six[2..<4]) == [0x12, 0x34])
        #expect(Array(six[8...]) == [1, 2, 3, 4] + [UInt8](repeating: 0, count: 11) + [15])
    }

    @Test func `a socket that was never bound is unnamed`() {
        let (storage, length) = stored(.unnamed)
        #expect(length == 2)
        #expect(SocketAddress(storage, length: length) == .unnamed)
        #expect(SocketAddress.unnamed.description == "unix:")
    }

    @Test func `a path that fills all of sun_path has no NUL`() {
        var storage = sockaddr_storage()
        storage.ss_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &storage) { raw in
            for index in 2..<110 { raw[index] = 0x61 }
        }
        #expect(SocketAddress(storage, length: 110)?.host == String(repeating: "a", count: 108))
        // A length beyond the storage, as for a name that the kernel has cut (accept(2)).
        #expect(SocketAddress(storage, length: 4_000)?.host == String(repeating: "a", count: 108))
    }

    @Test(arguments: [false, true])
    func `a peer's name that is no UTF-8 stays as it is`(isAbstract: Bool) throws {
        var storage = sockaddr_storage()
        storage.ss_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &storage) { raw in
            for index in (isAbstract ? 3 : 2)..<110 { raw[index] = 0xff }
        }
        let address = try #require(SocketAddress(storage, length: 110))
        #expect(address.bytes == [UInt8](repeating: 0xff, count: isAbstract ? 107 : 108))
        let (again, length) = stored(address)
        #expect(length == 110)
        #expect(withUnsafeBytes(of: again, Array.init) == withUnsafeBytes(of: storage, Array.init))
        let error = address.withSockaddr { pointer, length in
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            return connect(descriptor, pointer, length) == 0 ? 0 : errno
        }
        #expect(error == (isAbstract ? ECONNREFUSED : ENOENT))
    }

    @Test func `a family that we do not speak is none`() {
        var storage = sockaddr_storage()
        storage.ss_family = sa_family_t(AF_PACKET)
        #expect(SocketAddress(storage, length: 16) == nil)
    }

    private func stored(_ address: SocketAddress) -> (storage: sockaddr_storage, length: socklen_t) {
        address.withSockaddr { pointer, length in
            var storage = sockaddr_storage()
            withUnsafeMutableBytes(of: &storage) {
                $0.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
            }
            return (storage, length)
        }
    }
}

extension UInt64 {
    fileprivate init(littleEndianBytes bytes: some Sequence<UInt8>) {
        self = bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
