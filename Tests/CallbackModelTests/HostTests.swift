import Glibc
import Testing

@testable import CallbackModel

/// One rule on every engine; contract, clause 18.
@Suite struct `What a host may be` {
    @Test(arguments: [
        "a", "A", "7a", "a7", "a-b", "_dmarc.example", "a_b", "_", "xn--bcher-kva.example", "localhost", "localhost.",
        "LOCALHOST", "0.example", "1.2.3.4.example", "a.0x7g", "1e3", "a--b",
    ])
    func `a name`(host: String) throws {
        #expect(try Host(host) == .name(host))
    }

    @Test func `a name as long as a name can be`() throws {
        let label = String(repeating: "a", count: 63)
        let longest = "\(label).\(label).\(label).\(String(repeating: "b", count: 61))"
        #expect(longest.utf8.count == 253)
        #expect(try Host(longest) == .name(longest))
        #expect(try Host(longest + ".") == .name(longest + "."))
        for host in [longest + "b", longest + "b.", "a" + label, "a" + label + ".example"] {
            #expect(throws: IOError.self) { try Host(host) }
        }
    }

    @Test(arguments: ["0.0.0.0", "127.0.0.1", "255.255.255.255", "192.0.2.1"])
    func `an IPv4 address of four decimal numbers`(host: String) throws {
        #expect(try Host(host) == .number(.success(.ipv4(host, port: 0))))
    }

    @Test(arguments: ["::", "::1", "2001:DB8::1", "::ffff:192.0.2.1", "fe80::1%1", "1:2:3:4:5:6:7:8"])
    func `an IPv6 address`(host: String) throws {
        #expect(try Host(host) == .number(.success(.ipv6(host, port: 0))))
    }

    @Test func `a zone that is no interface is an answer`() throws {
        guard case .number(.failure(let error)) = try Host("fe80::1%no-such") else {
            Issue.record("taken")
            return
        }
        #expect(error.errno == ENODEV && error.detail?.contains("fe80::1%no-such") == true, "\(error)")
    }

    @Test(arguments: [
        // What inet_aton(3) and URLs take for IPv4.
        "127.1", "127.0.1", "1", "0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.01", "1.2.3.4.",
        "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "1.2.3", "a.1", "example.0x", "example.0xff", "example.0XFF", "a.00",
        // Brackets, ports and what else URLs have.
        "[::1]", "[127.0.0.1]", "[", "]", "::1]", "127.0.0.1:80", "localhost:80", "[::1]:80", "http://localhost", "a/b",
        "user@host", "a?b", "a#b", "a%2eb", "%61", "a%lo", "127.0.0.1%lo",
        // Labels.
        ".", "..", ".a", "a..", "a..b", "-", "-a", "a-", "a.-b", "a-.b", "a.b-.", "-.-",
        // Bytes.
        "", " ", " a", "a ", "a b", "a\tb", "a\n", "\u{1b}[31m", "a\0", "\0", "a\u{7f}", "a\\b", "a\"b", "a'b", "a;b",
        "*", "a*",
        // No ASCII: letters, full width, dots of other scripts, invisible ones, digits.
        "bücher.example", "BÜCHER.example", "ß", "ı", "ſ", "ａ", "a。b", "a．b", "a｡b", "a\u{ad}b", "a\u{200b}b",
        "a\u{202e}b", "１２７.0.0.1", "١", "日本", "👩‍👩‍👧", "e\u{301}",
        // IPv6 that is none.
        ":", "::1::", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::g", "::12345", "::1 ", "::1\n", "::1.2.3",
        "::127.1",
    ])
    func `anything else is refused with a sentence of plain characters`(host: String) {
        let error = #expect(throws: IOError.self) { try Host(host) }
        #expect(error?.call == "getaddrinfo" && error?.errno == EINVAL)
        let text = error?.description ?? ""
        #expect(text.unicodeScalars.allSatisfy { (0x20...0x7e).contains($0.value) }, "\(text)")
        #expect(host.isEmpty || text.contains("host \""), "\(text)")
    }

    @Test func `a host of a megabyte is refused in a short sentence`() {
        for piece in ["a", "a.", "é", ":"] {
            let error = #expect(throws: IOError.self) { try Host(String(repeating: piece, count: 1 << 20)) }
            #expect((error?.description.utf8.count ?? 0) < 1_500)
        }
    }
}
