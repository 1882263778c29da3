import CallbackServer
import Glibc
import TestSupport
import Testing

/// Where a peer can be.
enum Place: String, CaseIterable, Codable {
    case ipv4, ipv6, unixPath, unixAbstract

    var isUnix: Bool { self == .unixPath || self == .unixAbstract }
}

/// A peer that listens at such a place, with plain blocking sockets.
final class PlainServer: Sendable {
    let address: SocketAddress
    let listener: PlainListener
    private let directory: TemporaryDirectory?

    init(_ place: Place, backlog: Int32 = 128) throws {
        var directory: TemporaryDirectory?
        switch place {
        case .ipv4:
            listener = try PlainListener(backlog: backlog)
            address = try .ipv4("127.0.0.1", port: Int(listener.port))
        case .ipv6:
            listener = try PlainListener(host: "::1", backlog: backlog)
            address = try .ipv6("::1", port: Int(listener.port))
        case .unixPath:
            let made = try TemporaryDirectory()
            directory = made
            listener = try PlainListener(unixPath: made.path(of: "peer"), backlog: backlog)
            address = try .unix(path: made.path(of: "peer"))
        case .unixAbstract:
            let name = "cbs-\(getpid())-\(UInt64.random(in: 0 ... .max))"
            listener = try PlainListener(abstractName: name, backlog: backlog)
            address = try .unix(abstract: name)
        }
        self.directory = directory
    }

    /// Runs `talk` with the next client, on a thread of its own.
    func serve<Value: Sendable>(
        _ talk: @escaping @Sendable (PlainClient) throws -> Value
    ) -> RunningThread<Value> {
        onThread { [listener] in try talk(try listener.accept()) }
    }
}

/// A peer that hears a client out, then answers and closes; returns what it has heard.
func answeringAtEnd(_ client: PlainClient) throws -> [UInt8] {
    let bytes = try client.receiveUntilEnd()
    try client.send("answer")
    client.close()
    return bytes
}

/// A port of 127.0.0.1 that is taken, and at which nobody listens: connecting to it is refused.
final class SilentPort {
    let descriptor: Int32
    let port: Int

    init() throws {
        let made = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let size = length
        let status = withUnsafeMutableBytes(of: &address) { bytes in
            let pointer = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            return bind(made, pointer, size) + getsockname(made, pointer, &length)
        }
        descriptor = made
        port = Int(UInt16(bigEndian: address.sin_port))
        guard status == 0 else { throw PeerError(call: "bind", cause: .errno(errno), waitedFor: "a port") }
    }

    deinit { close(descriptor) }

    var address: SocketAddress { get throws { try .ipv4("127.0.0.1", port: port) } }
}

/// A peer that lets clients hang: with backlog 0 the kernel keeps one connection and drops the SYN of each other
/// (listen(2), and tcp_conn_request in the kernel's net/ipv4/tcp_input.c).
final class HangingPeer {
    let address: SocketAddress
    let listener: PlainListener
    private let first: PlainClient

    init() throws {
        listener = try PlainListener(backlog: 0)
        address = try .ipv4("127.0.0.1", port: Int(listener.port))
        first = try PlainClient(port: listener.port)
    }
}

extension Connection {
    /// What the kernel calls the socket, `socket:[4711]`: unlike the descriptor's number, it stays this one's.
    var kernelName: String {
        get throws { try #require(try openDescriptors()[descriptor]) }
    }
}

extension Connection.Options {
    /// The defaults, but for what `change` sets.
    static func with(_ change: (inout Self) -> Void) -> Self {
        var options = Self()
        change(&options)
        return options
    }
}

extension EventLoop.ConnectOptions {
    /// The defaults, but for what `change` sets.
    static func with(_ change: (inout Self) -> Void) -> Self {
        var options = Self()
        change(&options)
        return options
    }

    /// The defaults, but for this connect time-out.
    static func timeout(_ time: Duration) -> Self {
        .with { $0.connection.timeouts.connect = time }
    }
}
