internal import CLinux
internal import CallbackModel
internal import Glibc

extension Scenario {
    static let binding: [Scenario] = [
        Scenario(
            "tcp_bind_error_addrinuse_listen", source: "bind(2), listen(2): EADDRINUSE", clauses: [18],
            handler: .program(addressInUse), notes: ["EADDRINUSE"]),
        Scenario(
            "pipe_bind_error_addrinuse", source: "bind(2): EADDRINUSE, somebody listens there", clauses: [18],
            on: .unix, handler: .program(addressInUse), notes: ["EADDRINUSE"]),
        Scenario(
            "tcp_bind_error_addrnotavail_2", source: "bind(2): EADDRNOTAVAIL; RFC 5737: nobody has 192.0.2.1",
            clauses: [18], handler: .program(addressNotAvailable), notes: ["EADDRNOTAVAIL"]),
        Scenario(
            "tcp_bind_error_inval", source: "bind(2), listen(2): EINVAL; contract, clause 18", clauses: [18],
            handler: .program(invalid),
            notes: [
                "port 70000: EINVAL", "port -1: EINVAL", "backlog 0: EINVAL", "an empty path: EINVAL",
                "a long path: ENAMETOOLONG", "no address: EINVAL", "an empty host: EINVAL",
            ]),
        Scenario(
            "what_a_host_may_be", source: "RFC 1123, section 2.1; URL standard, \"ends in a number\"", clauses: [18],
            handler: .program(hosts),
            notes: [
                "an address in brackets: EINVAL", "a short number: EINVAL", "a number in base 16: EINVAL",
                "an empty label: EINVAL", "a label of 64: EINVAL", "a hyphen at an end: EINVAL", "a blank: EINVAL",
                "letters with marks: EINVAL", "a full-width dot: EINVAL", "127.0.0.1:1", "[::1]:2",
            ]),
        Scenario(
            "tcp_bind_or_listen_error_after_close", source: "libuv documentation, uv_close; contract, clause 8",
            clauses: [8, 18], handler: .program(listenAfterClose), notes: ["closed", "bound again", "closed again"]),
        Scenario(
            "tcp_bind_writable_flags", source: "contract, clause 8: a closed connection takes nothing", clauses: [8],
            handler: .clients([
                Script(.nothing, [.on(.start, .close, .write("x"), .writeCompleting("y"), .end)])
            ]),
            peers: [Peer(reception: .refuses)],
            expected: [Expectation.unopened(.localClose)]),
        Scenario(
            "getsockname_tcp", source: "getsockname(2): port 0 has become a port", clauses: [12],
            handler: .program(socketName), peers: [.echoed("name")], expected: [.echo(of: "name")],
            notes: ["127.0.0.1 with a port", "the connection's is the listener's"]),
        Scenario(
            "tcp_flags", source: "tcp(7): TCP_NODELAY, TCP_KEEPIDLE; socket(7): SO_KEEPALIVE", clauses: [12],
            options: .connections { $0.keepAlive = .init(idle: .seconds(33)) }, handler: .program(flags),
            peers: [.echoed("flags")], expected: [.echo(of: "flags")],
            notes: ["TCP_NODELAY 1", "SO_KEEPALIVE 1", "TCP_KEEPIDLE 33"]),
        Scenario(
            "tcp_open_connected", source: "libuv documentation, uv_tcp_open", clauses: [10],
            handler: .program(adoptConnected), peers: [Peer(.read(5), .send("there"), .halfClose, .readToEnd)],
            expected: [
                Expectation(
                    received: .exactly("there"), ended: true, closing: .peerClosed, peer: .exactly("hello"), .end
                ).with { $0.isOpened = nil }
            ]),
        Scenario(
            "tcp_open_twice", source: "libuv documentation, uv_tcp_open: what is no connected socket is refused",
            clauses: [18], handler: .program(adoptWrong), notes: ["not connected: ENOTCONN", "not listening: EINVAL"]),
    ]

    private static func addressInUse(_ stage: Stage) throws(IOError) {
        let first = try stage.loop.listen(on: try stage.scenario.endpoint.freshAddress()) { _ in }
        do throws(IOError) {
            try stage.loop.listen(on: first.localAddress) { _ in }.close()
            stage.note("bound twice")
        } catch {
            stage.note(error.name)
        }
        first.close()
    }

    private static func addressNotAvailable(_ stage: Stage) throws(IOError) {
        do throws(IOError) {
            try stage.loop.listen(on: .ipv4("192.0.2.1", port: 0)) { _ in }.close()
            stage.note("bound")
        } catch {
            stage.note(error.name)
        }
    }

    private static func invalid(_ stage: Stage) {
        func attempt(_ what: String, _ body: () throws(IOError) -> Void) {
            do throws(IOError) {
                try body()
                stage.note("\(what): no error")
            } catch {
                stage.note("\(what): \(error.name)")
            }
        }
        attempt("port 70000") { () throws(IOError) in _ = try SocketAddress.ipv4("127.0.0.1", port: 70_000) }
        attempt("port -1") { () throws(IOError) in _ = try SocketAddress.ipv6("::1", port: -1) }
        attempt("backlog 0") { () throws(IOError) in
            var options = Listener.Options()
            options.backlog = 0
            try stage.loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { _ in }.close()
        }
        attempt("an empty path") { () throws(IOError) in _ = try SocketAddress.unix(path: "") }
        attempt("a long path") { () throws(IOError) in
            _ = try SocketAddress.unix(path: String(repeating: "x", count: 108))
        }
        attempt("no address") { () throws(IOError) in _ = try SocketAddress.ipv4("127.0.0.256", port: 1) }
        attempt("an empty host") { () throws(IOError) in try stage.loop.resolve(host: "", port: 1) { _ in } }
    }

    private static func hosts(_ stage: Stage) throws(IOError) {
        let refused = [
            ("an address in brackets", "[::1]"), ("a short number", "127.1"), ("a number in base 16", "0x7f000001"),
            ("an empty label", "a..b"), ("a label of 64", String(repeating: "a", count: 64)),
            ("a hyphen at an end", "a-.b"), ("a blank", "a b"), ("letters with marks", "b\u{fc}cher.example"),
            ("a full-width dot", "a\u{ff0e}b"),
        ]
        for (what, host) in refused {
            do throws(IOError) {
                try stage.loop.resolve(host: host, port: 1) { _ in }
                stage.note("\(what): taken")
            } catch {
                stage.note("\(what): \(error.name)")
            }
        }
        for (port, host) in [(1, "127.0.0.1"), (2, "::1")] {
            try stage.loop.resolve(host: host, port: port) { [unowned stage] answer in
                stage.note((try? answer.get().first?.description) ?? "not found")
            }
        }
    }

    private static func listenAfterClose(_ stage: Stage) throws(IOError) {
        let listener = try stage.loop.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in }
        let address = listener.localAddress
        listener.onClose = { listener in
            stage.note("closed")
            listener.close()
            listener.pause()
            listener.resume()
            guard let again = try? stage.loop.listen(on: address, onConnection: { _ in }) else {
                return stage.note("in use")
            }
            stage.note("bound again")
            again.onClose = { _ in stage.note("closed again") }
            again.close()
        }
        listener.close()
    }

    private static func socketName(_ stage: Stage) throws(IOError) {
        try stage.listen { [unowned stage] connection in
            let isSame = connection.localAddress?.port == stage.listener?.localAddress.port
            stage.note(isSame ? "the connection's is the listener's" : "the ports differ")
            stage.play(Script(.echo), connection, as: stage.number(of: connection))
        }
        guard let address = stage.listener?.localAddress, let port = address.port else { return }
        stage.note("\(address.host) \(port > 0 ? "with a port" : "without a port")")
    }

    private static func flags(_ stage: Stage) throws(IOError) {
        try stage.listen { [unowned stage] connection in
            func note(_ name: String, _ level: Int32, _ option: Int32) {
                var value: Int32 = -1
                var length = socklen_t(MemoryLayout<Int32>.size)
                unsafe getsockopt(connection.descriptor, level, option, &value, &length)
                stage.note("\(name) \(value)")
            }
            note("TCP_NODELAY", Int32(IPPROTO_TCP), TCP_NODELAY)
            note("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE)
            note("TCP_KEEPIDLE", Int32(IPPROTO_TCP), TCP_KEEPIDLE)
            stage.play(Script(.echo), connection, as: stage.number(of: connection))
        }
    }

    private static func adoptConnected(_ stage: Stage) throws(IOError) {
        let descriptor = try stage.connectedSocket(to: 0)
        let connection = try stage.loop.adopt(connected: descriptor)
        stage.observe(connection, as: 0) { stage.play(Script(.nothing, [.on(.start, .write("hello"))]), $0, as: 0) }
    }

    private static func adoptWrong(_ stage: Stage) throws(IOError) {
        let type = Int32(SOCK_STREAM.rawValue)
        for (name, isListening) in [("not connected", false), ("not listening", true)] {
            let descriptor = socket(AF_INET, type, 0)
            // Refused, it stays the caller's.
            defer { _ = close(descriptor) }
            do throws(IOError) {
                if isListening {
                    try stage.loop.listen(adopting: descriptor) { _ in }.close()
                } else {
                    try stage.loop.adopt(connected: descriptor).close()
                }
                stage.note("\(name): no error")
            } catch {
                stage.note("\(name): \(error.name)")
            }
        }
    }
}
