import Glibc
import Testing

@testable import CallbackModel

@Suite struct `An IOError` {
    @Test func `is one sentence with the call, the address, the name and its meaning`() throws {
        let address = try SocketAddress.ipv4("127.0.0.1", port: 80)
        let cases: [(IOError, String)] = [
            (IOError(call: "bind", errno: EACCES, address: address), "bind 127.0.0.1:80: EACCES (permission denied)"),
            (IOError(call: "accept", errno: EMFILE), "accept: EMFILE (this process has no descriptor left)"),
            (IOError(call: "read", errno: EIO), "read: EIO"),
            (IOError(call: "read", errno: 4711), "read: errno 4711"),
            (IOError(call: "read", errno: 0), "read: errno 0"),
            (
                .invalid("htons", "port 70000 is not between 0 and 65535"),
                "htons (port 70000 is not between 0 and 65535): EINVAL (invalid argument)"
            ),
            (
                IOError(call: "getaddrinfo", errno: ENOENT, address: address, detail: "x.invalid"),
                "getaddrinfo 127.0.0.1:80 (x.invalid): ENOENT (no such file, directory or host)"
            ),
        ]
        for (error, text) in cases { #expect(error.description == text) }
    }

    /// A host and a path come from outside: no line may be forged with them, and no terminal written to.
    @Test func `escapes what comes from outside`() throws {
        let address = try SocketAddress.unix(path: "/a\nb\u{202e}")
        let error = IOError(call: "connect", errno: EIO, address: address, detail: "host \"\u{1b}[2J\\\"")
        #expect(error.description == "connect unix:/a\\nb\\u{202e} (host \"\\u{1b}[2J\\\"): EIO")
    }

    @Test(arguments: [
        (EPERM, "EPERM"), (ENOENT, "ENOENT"), (EAGAIN, "EAGAIN"), (ENOMEM, "ENOMEM"), (EADDRINUSE, "EADDRINUSE"),
        (EADDRNOTAVAIL, "EADDRNOTAVAIL"), (ECONNRESET, "ECONNRESET"), (EPIPE, "EPIPE"), (ETIMEDOUT, "ETIMEDOUT"),
        (ECONNREFUSED, "ECONNREFUSED"), (ENAMETOOLONG, "ENAMETOOLONG"), (ENFILE, "ENFILE"), (EMFILE, "EMFILE"),
        (ECANCELED, "ECANCELED"), (-1, "errno -1"),
    ])
    func `knows the names of errno(3)`(errno: Int32, name: String) {
        #expect(IOError(call: "x", errno: errno).name == name)
    }

    @Test(arguments: [
        (ECONNRESET, true), (EPIPE, true), (ECONNABORTED, true), (ETIMEDOUT, false), (ENOTCONN, false), (EIO, false),
        (ECONNREFUSED, false), (0, false),
    ])
    func `tells a peer's reset, whichever call met it`(errno: Int32, isReset: Bool) {
        #expect(IOError(call: "x", errno: errno).isPeerReset == isReset)
    }

    @Test func `keeps all but the address when told about another`() throws {
        let address = try SocketAddress.unix(path: "/a")
        let error = IOError(call: "bind", errno: EINVAL, detail: "why").about(address)
        #expect(error == IOError(call: "bind", errno: EINVAL, address: address, detail: "why"))
    }
}
