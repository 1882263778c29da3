extension HostComparison {
    /// 200 hosts: names and numbers as users write them, and what should pass for neither.
    package static let cases: [HostCase] = numbers + names + numericForms + urls + labels + lengths + bytes + scripts

    private static func refused(_ hosts: [String]) -> [HostCase] { hosts.map { HostCase($0, .refused) } }

    /// Each with port 7.
    private static let numbers: [HostCase] = [
        ("127.0.0.1", "127.0.0.1:7"), ("0.0.0.0", "0.0.0.0:7"), ("255.255.255.255", "255.255.255.255:7"),
        ("192.0.2.1", "192.0.2.1:7"), ("10.0.0.1", "10.0.0.1:7"), ("::", "[::]:7"), ("::1", "[::1]:7"),
        ("0:0:0:0:0:0:0:1", "[::1]:7"), ("2001:db8::1", "[2001:db8::1]:7"), ("2001:DB8::A", "[2001:db8::a]:7"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "[2001:db8::1]:7"), ("1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]:7"),
        ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]:7"), ("::192.0.2.1", "[::192.0.2.1]:7"), ("ff02::1", "[ff02::1]:7"),
        ("fe80::1", "[fe80::1]:7"), ("fe80::1%1", "[fe80::1%1]:7"), ("fe80::1%lo", "[fe80::1%1]:7"),
        ("fe80::1%no-such-if", "ENODEV"), ("fe80::1%", "ENODEV"),
    ].map { HostCase($0.0, .number($0.1)) }

    /// Of those that are unknown the top-level domain is never there (RFC 6761, section 6.4).
    private static let names: [HostCase] = [
        "localhost", "localhost.", "LOCALHOST", "LocalHost", "nobody.invalid", "nobody.invalid.", "NOBODY.invalid",
        "a.invalid", "a-b.invalid", "a--b.invalid", "a_b.invalid", "_a._b.invalid", "7.invalid", "7a.invalid",
        "1.2.3.4.invalid", "0x7f.invalid", "xn--bcher-kva.invalid", "a.b.c.d.e.f.g.invalid",
        String(repeating: "a", count: 63) + ".invalid", String(repeating: "a.", count: 122) + "invalid.",
        (1...30).map { _ in "abcdefg" }.joined(separator: ".") + ".invalid",
        (1...3).map { _ in String(repeating: "b", count: 63) }.joined(separator: ".")
            + "." + String(repeating: "c", count: 53) + ".invalid",
    ].map { HostCase($0, .name) }

    /// What inet_aton(3) and the URL standard take for IPv4, and what is nearly IPv6.
    private static let numericForms = refused([
        "127.1", "127.0.1", "1", "0", "00", "2130706433", "4294967296", "0x7f000001", "0X7F000001", "0x7f.1",
        "0x7f.0.0.0x1", "017700000001", "0177.0.0.1", "127.0.0.01", "127.0.0.001", "127.0.0.1.", "127.0.0.1..",
        "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "1.2.3.", "1..2.3", ".1.2.3.4", "-1.2.3.4", "+1.2.3.4",
        "1.2.3.-4", "example.1", "example.01", "example.0x", "example.0x1f", "0x", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n",
        "1,2,3,4", ":", ":::", "::1::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::g", "::12345", "::1 ", " ::1",
        "::1.2.3", "::127.1", "::ffff:1.2.3.256", "1::2::3",
    ])

    private static let urls = refused([
        "[::1]", "[127.0.0.1]", "[localhost]", "[", "]", "[]", "[::1", "::1]", "[fe80::1%lo]", "127.0.0.1:80",
        "localhost:80", "[::1]:80", ":80", "http://localhost", "localhost/", "localhost/path",
        "user@localhost", "localhost?x", "localhost#x", "%6cocalhost", "localhost%2einvalid", "127.0.0.1%lo",
        "localhost%lo", "unix:/tmp/x", "@name", "*", "*.invalid",
    ])

    private static let labels = refused([
        ".", "..", "...", ".a", ".localhost", "a..", "localhost..", "a..b", "a.b..c", "-", "--", "-a", "a-", "-a-",
        "a.-b", "a-.b", "a.b-", "a.b-.", "-.-", "-.a",
    ])

    private static let lengths = refused([
        "", String(repeating: "a", count: 64), String(repeating: "a", count: 64) + ".invalid",
        "a." + String(repeating: "b", count: 64), "xn--.invalid", String(repeating: "a.", count: 128),
        (1...4).map { _ in String(repeating: "d", count: 63) }.joined(separator: "."),
        String(repeating: "a", count: 255), String(repeating: "a.", count: 500) + "a",
        String(repeating: "a", count: 100_000), String(repeating: ":", count: 100_000),
    ])

    private static let bytes = refused([
        "\0", "a\0", "\0a", "localhost\0.invalid", "127.0.0.1\0", "::1\0", " ", "  ", "a b", "localhost ", " localhost",
        "local\thost", "localhost\n", "localhost\r\n", "\u{1b}[31mlocalhost", "\u{7}", "a\u{7f}", "a\\b", "a\"b", "a'b",
        "a;b", "a`b", "a!", "a{b}",
    ])

    /// Letters that fold, dots of other scripts, digits of other scripts, what has no width, what turns around.
    private static let scripts = refused([
        "bücher.invalid", "BÜCHER.invalid", "bu\u{308}cher.invalid", "straße.invalid", "ſ.invalid", "ı.invalid",
        "İ.invalid", "ﬁ.invalid", "ａ.invalid", "localhost。", "localhost．", "a。invalid", "a．invalid", "a｡invalid",
        "１２７.0.0.1", "127.0.0.١", "①②⑦.0.0.1", "日本.invalid", "пример.invalid", "مثال.invalid",
        "lo\u{ad}calhost", "local\u{200b}host", "local\u{200d}host", "\u{202e}tsohlacol", "\u{feff}localhost",
        "👩‍👩‍👧.invalid", "a\u{300}.invalid",
    ])
}
