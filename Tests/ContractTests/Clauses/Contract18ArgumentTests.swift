import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 18: bad arguments` {
    @Test(arguments: Engine.allCases, BadOptions.all)
    func `options out of bounds are refused by their value`(engine: Engine, bad: BadOptions) throws {
        let loop = try EventLoop(engine: engine)
        let error = #expect(throws: IOError.self) {
            try loop.listen(options: bad.options) { _ in }
        }
        #expect(error?.name == "EINVAL")
        #expect(error?.detail?.contains(bad.value) == true, "\(error?.description ?? "no error") names \(bad.value)")
        #expect(!loop.isAlive)
        // Not until it is idle: a listener that was made all the same would keep it for ever.
        try loop.run(.noWait)
    }

    @Test(arguments: Engine.allCases)
    func `options at their bounds are taken`(engine: Engine) throws {
        var least = Listener.Options()
        least.backlog = 1
        least.acceptsPerWakeup = 1
        least.maxConnections = 1
        least.connection.highWaterMark = 1
        least.connection.lowWaterMark = 0
        least.connection.receiveBufferSize = 1
        least.connection.sendBufferSize = 1
        least.connection.notSentLowWaterMark = 1
        least.connection.keepAlive = Connection.KeepAlive(idle: .seconds(1), interval: .seconds(1), count: 1)
        least.connection.timeouts.write = .milliseconds(1)
        var most = Listener.Options()
        most.backlog = Int(Int32.max)
        most.acceptsPerWakeup = 1_024
        most.maxConnections = Int.max
        most.connection.highWaterMark = 1 << 30
        most.connection.lowWaterMark = (1 << 30) - 1
        most.connection.receiveBufferSize = Int(Int32.max)
        most.connection.notSentLowWaterMark = Int(Int32.max)
        most.connection.keepAlive = Connection.KeepAlive(
            idle: .seconds(32_767), interval: .seconds(32_767), count: 127)
        most.connection.timeouts.idle = .seconds(Int64.max)
        for options in [least, most] {
            let stage = try Stage(engine, options: options, serve: echo)
            try stage.run { port in
                let client = try PlainClient(port: port)
                // With buffers of a byte each small step may wait for an acknowledgement: a few are enough.
                try client.send("x")
                let back = try client.receive(exactly: 1)
                #expect(back == Array("x".utf8))
                client.close()
            }
        }
    }

    @Test(arguments: Engine.allCases)
    func `addresses that cannot be had are refused by name, and nothing is left`(engine: Engine) throws {
        let other = try PlainListener()
        let directory = try TemporaryDirectory()
        let file = directory.path(of: "file")
        #expect(close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)) == 0)
        let live = try PlainListener(unixPath: directory.path(of: "live.sock"))
        let refusals: [(address: SocketAddress, call: String, name: String)] = [
            (try .ipv4("127.0.0.1", port: Int(other.port)), "bind", "EADDRINUSE"),
            (try .ipv4("192.0.2.1", port: 0), "bind", "EADDRNOTAVAIL"),
            (try .unix(path: directory.path(of: "no/such.sock")), "bind", "ENOENT"),
            // Neither another kind of file nor a live server's socket is taken for a stale one.
            (try .unix(path: file), "bind", "EADDRINUSE"),
            (try .unix(path: directory.path(of: "live.sock")), "bind", "EADDRINUSE"),
        ]
        let loop = try EventLoop(engine: engine)
        for (address, call, name) in refusals {
            let error = #expect(throws: IOError.self) { try loop.listen(on: address) { _ in } }
            #expect(error?.call == call)
            #expect(error?.name == name)
            #expect(error?.address == address)
            #expect(!loop.isAlive)
        }
        #expect(access(file, F_OK) == 0)
        _ = try PlainClient(unixPath: directory.path(of: "live.sock"))
        _ = try live.accept()
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `a refusal leaves no descriptor and no memory behind`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            let other = try PlainListener()
            func refuseAll() throws {
                for bad in BadOptions.all {
                    #expect(throws: IOError.self) { try loop.listen(options: bad.options) { _ in } }
                }
                #expect(throws: IOError.self) {
                    try loop.listen(on: .ipv4("127.0.0.1", port: Int(other.port))) { _ in }
                }
                #expect(throws: IOError.self) { try loop.onSignal(.init(rawValue: SIGKILL)) { _ in } }
                #expect(throws: IOError.self) { try loop.resolve(host: "", port: 1) { _ in } }
            }
            try refuseAll()
            try loop.run()
            let before = try openDescriptors()
            for _ in 0..<20 { try refuseAll() }
            try loop.run()
            let after = try openDescriptors()
            let left = after.filter { before[$0.key] != $0.value }
            #expect(left.isEmpty && after.count == before.count, "\(left) is left")
            #expect(!loop.isAlive, "something is left alive")
        }
    }

    @Test(arguments: Engine.allCases, [SIGKILL, SIGSTOP, 0, -1, 65, 1_000])
    func `a signal that cannot be caught is refused by its number`(engine: Engine, number: Int32) throws {
        let loop = try EventLoop(engine: engine)
        let token = Token()
        weak let watched = token
        let error = #expect(throws: IOError.self) {
            try loop.onSignal(.init(rawValue: number)) { [token] _ in _ = token }
        }
        #expect(error?.name == "EINVAL")
        #expect(error?.detail?.contains("\(number)") == true, "\(error?.description ?? "")")
        _ = watched
        try loop.run()
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `a bad question to the resolver is refused, and never answered`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let questions: [(host: String, port: Int, word: String)] = [
            ("", 80, "empty"), ("a\u{0}b", 80, "NUL"), ("localhost", 70_000, "70000"), ("localhost", -1, "-1"),
        ]
        for (host, port, word) in questions {
            let error = #expect(throws: IOError.self) {
                try loop.resolve(host: host, port: port) { _ in Issue.record("answered") }
            }
            #expect(error?.call == "getaddrinfo")
            #expect(error?.name == "EINVAL")
            #expect(error?.detail?.contains(word) == true, "\(error?.description ?? "")")
        }
        #expect(!loop.isAlive)
        try loop.run()
    }

    @Test func `an address that is none is refused by its text`() {
        let long = String(repeating: "p", count: 108)
        let refusals: [(make: () throws -> SocketAddress, name: String, word: String)] = [
            ({ try .ipv4("127.0.0.1", port: 70_000) }, "EINVAL", "70000"),
            ({ try .ipv4("127.0.0.1", port: -1) }, "EINVAL", "-1"),
            ({ try .ipv4("", port: 1) }, "EINVAL", "\"\""),
            ({ try .ipv4("127.0.0.256", port: 1) }, "EINVAL", "127.0.0.256"),
            ({ try .ipv4("127.0.0.1\u{0}", port: 1) }, "EINVAL", "127.0.0.1"),
            ({ try .ipv6("::g", port: 1) }, "EINVAL", "::g"),
            ({ try .ipv6("fe80::1%no-such-interface", port: 1) }, "ENODEV", "no-such-interface"),
            ({ try .ipv6("::1", port: 65_536) }, "EINVAL", "65536"),
            ({ try .unix(path: "") }, "EINVAL", "empty"),
            ({ try .unix(path: "a\u{0}b") }, "EINVAL", "NUL"),
            ({ try .unix(path: long) }, "ENAMETOOLONG", "108"),
            ({ try .unix(abstract: long) }, "ENAMETOOLONG", "108"),
            ({ try SocketAddress(parsing: "nonsense") }, "EINVAL", "nonsense"),
            ({ try SocketAddress(parsing: "127.0.0.1:99999") }, "EINVAL", "99999"),
        ]
        for (make, name, word) in refusals {
            let error = #expect(throws: IOError.self) { _ = try make() }
            #expect(error?.name == name)
            #expect(error?.description.contains(word) == true, "\(error?.description ?? "")")
        }
        #expect(throws: Never.self) { _ = try SocketAddress.unix(path: String(long.dropFirst())) }
    }
}

/// Options of which one number is out of bounds, and how that number is told.
struct BadOptions: Sendable, CustomTestStringConvertible {
    let name: String
    let value: String
    let options: Listener.Options

    var testDescription: String { "\(name) \(value)" }

    init(_ name: String, _ value: String, _ change: (inout Listener.Options) -> Void) {
        self.name = name
        self.value = value
        var options = Listener.Options()
        change(&options)
        self.options = options
    }

    static let all: [BadOptions] = listening + marks + times

    private static let listening: [BadOptions] =
        [0, -1, Int.max].map { (number: Int) in BadOptions("backlog", "\(number)") { $0.backlog = number } }
        + [0, -1, 1_025].map { (number: Int) in
            BadOptions("acceptsPerWakeup", "\(number)") { $0.acceptsPerWakeup = number }
        }
        + [0, -1].map { (number: Int) in BadOptions("maxConnections", "\(number)") { $0.maxConnections = number } }
        + [BadOptions("unixMode", "1000") { $0.unixMode = 0o1000 }]

    private static let marks: [BadOptions] =
        [0, -1, 1 << 30 + 1].map { (number: Int) in
            BadOptions("highWaterMark", "\(number)") { $0.connection.highWaterMark = number }
        }
        + [-1, 64 * 1024, 1 << 40].map { (number: Int) in
            BadOptions("lowWaterMark", "\(number)") { $0.connection.lowWaterMark = number }
        }
        + [0, -1, 1 << 31].map { (number: Int) in
            BadOptions("receiveBufferSize", "\(number)") { $0.connection.receiveBufferSize = number }
        }
        + [0, -1, 1 << 31].map { (number: Int) in
            BadOptions("sendBufferSize", "\(number)") { $0.connection.sendBufferSize = number }
        }
        + [0, -1, 1 << 31].map { (number: Int) in
            BadOptions("notSentLowWaterMark", "\(number)") { $0.connection.notSentLowWaterMark = number }
        }

    private static let times: [BadOptions] =
        [Duration.zero, .seconds(-1), .microseconds(999)].flatMap { (time: Duration) in
            [
                BadOptions("idle", "\(time)") { $0.connection.timeouts.idle = time },
                BadOptions("read", "\(time)") { $0.connection.timeouts.read = time },
                BadOptions("write", "\(time)") { $0.connection.timeouts.write = time },
                BadOptions("connect", "\(time)") { $0.connection.timeouts.connect = time },
                BadOptions("close", "\(time)") { $0.connection.timeouts.close = time },
            ]
        }
        + [Duration.zero, .milliseconds(999), .seconds(32_768), .seconds(-5)].flatMap { (time: Duration) in
            [
                BadOptions("keepAlive.idle", "\(time)") { $0.connection.keepAlive = .init(idle: time) },
                BadOptions("keepAlive.interval", "\(time)") { $0.connection.keepAlive = .init(interval: time) },
            ]
        }
        + [0, -1, 128].map { (number: Int) in
            BadOptions("keepAlive.count", "\(number)") { $0.connection.keepAlive = .init(count: number) }
        }
}
