import CallbackServer
import ExampleTestSupport
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `Proxy` {
    @Test(arguments: Engine.allCases)
    func `curl and wrk get through it to another server`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let proxy = try Example("proxy", engine, ["--to", "localhost:\(server.port)"])
        #expect(try run("curl", ["-sS", "http://127.0.0.1:\(proxy.port)/"]) == "Hello, world!\n")
        let output = try run("wrk", ["-t", "1", "-c", "20", "-d", "1", "http://127.0.0.1:\(proxy.port)/"])
        #expect(!output.contains("Non-2xx") && !output.contains("Socket errors"), "\(output)")
        try proxy.stop()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `bytes go both ways whole, and each end on its own`(engine: Engine) throws {
        let listener = try PlainListener()
        let proxy = try Example("proxy", engine, ["--to", "127.0.0.1:\(listener.port)"])
        let client = try proxy.client()
        let server = try listener.accept()
        try expectBothWays(client, server, count: 8 << 20)
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases)
    func `who does not read is not written to, and costs no memory`(engine: Engine) throws {
        let listener = try PlainListener(receiveBuffer: 4_096)
        let proxy = try Example("proxy", engine, ["--to", "127.0.0.1:\(listener.port)"])
        let client = try proxy.client()
        let server = try listener.accept()
        let memory = try peakResidentBytes(of: proxy.child)
        // Of 256 MiB the kernel's buffers on both sides take a few, and the proxy 64 KiB and a read.
        _ = try client.sendUntilFull(pseudoRandomBytes(count: 1 << 20), most: 256 << 20)
        #expect(try peakResidentBytes(of: proxy.child) - memory < 16 << 20)
        try client.reset()
        #expect(try server.receiveUntilOver().ending == .reset)
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a server that is not there is told, and the client's connection reset`(engine: Engine) throws {
        let listener = try PlainListener()
        let port = listener.port
        listener.close()
        let proxy = try Example("proxy", engine, ["--to", "127.0.0.1:\(port)"])
        let client = try proxy.client()
        #expect(try client.receiveUntilOver().ending == .reset)
        try proxy.child.waitForLine(containing: "connect 127.0.0.1:\(port): ECONNREFUSED")
        try proxy.stop()
    }
}

@Suite(.timeLimit(.minutes(20)))
struct `Time signal` {
    @Test(arguments: Engine.allCases)
    func `everybody gets the time, again and again, and goodbye at SIGTERM`(engine: Engine) throws {
        let station = try Example("time-signal", engine, ["--interval", "0.05"])
        let listeners = try (0..<3).map { _ in try station.client() }
        for listener in listeners {
            #expect(try listener.receiveLine() == "Every 0.05 seconds:")
            for _ in 0..<3 { #expect(try listener.receiveLine().contains(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)) }
        }
        station.child.signal(SIGTERM)
        for listener in listeners {
            let rest = String(decoding: try listener.receiveUntilEnd(), as: UTF8.self)
            #expect(rest.hasSuffix("Goodbye.\n"))
            listener.close()
        }
        #expect(try station.child.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `SIGHUP sends the time at once, SIGUSR1 tells figures`(engine: Engine) throws {
        let station = try Example("time-signal", engine, ["--interval", "3600"])
        let nc = try ChildProcess(try tool("nc"), ["-d", "127.0.0.1", "\(station.port)"])
        #expect(try nc.readLine() == "Every 3600.0 seconds:")
        for _ in 0..<3 {
            station.child.signal(SIGHUP)
            #expect(try nc.readLine().contains(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/))
        }
        station.child.signal(SIGUSR1)
        try station.child.waitForLine(containing: "1 listeners, 3 signals sent")
        try station.child.waitForLine(containing: "asleep")
        try station.stop()
        #expect(try nc.readLine() == "Goodbye.")
        #expect(try nc.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `who does not read is dropped`(engine: Engine) throws {
        let station = try Example("time-signal", engine, ["--interval", "0.001"])
        let stuck = try station.client(receiveBuffer: 1_024)
        let listener = try station.client()
        // At a thousand lines a second, until the kernel's buffers are full.
        try station.child.waitForLine(containing: "does not read", timeLimit: .seconds(300))
        #expect(try stuck.receiveUntilOver().ending == .reset)
        #expect(try listener.receiveLine() == "Every 0.001 seconds:")
        listener.close()
        try station.stop()
    }
}

@Suite(.timeLimit(.minutes(20)))
struct `Unix echo` {
    @Test(arguments: Engine.allCases)
    func `its client, socat and nc get back what they send`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "echo.sock")
        let server = try serve(path, engine)
        #expect(try mode(of: path) == 0o600)
        #expect(try send(path, "hello", engine) == "hello\n")
        let lines = String(repeating: "hello\n", count: 500_000)
        #expect(try send(path, "hello", engine, ["--times", "500000"]) == lines)
        #expect(try run("socat", ["-t", "5", "-", "UNIX-CONNECT:\(path)"], input: "from socat\n") == "from socat\n")
        #expect(try run("nc", ["-N", "-U", path], input: "from nc\n") == "from nc\n")
        server.signal(SIGTERM)
        #expect(try server.waitForExit() == .exited(0))
        // The socket's file has gone with the server.
        #expect(access(path, F_OK) == -1)
    }

    @Test(arguments: Engine.allCases)
    func `a name without a file will do`(engine: Engine) throws {
        let name = "@callbackserver-examples-\(getpid())-\(engine)"
        let server = try serve(name, engine)
        #expect(try send(name, "hello", engine) == "hello\n")
        server.signal(SIGTERM)
        #expect(try server.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `the client tells when nobody listens, and when the server goes away too early`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "echo.sock")
        let alone = try Example.start("unix-echo", ["send", path, "hello", "--engine", engine.rawValue])
        #expect(try alone.waitForExit() == .exited(1))
        #expect(alone.standardErrorText.contains("connect unix:\(path): ENOENT"))
        let listener = try PlainListener(unixPath: path)
        let client = try Example.start("unix-echo", ["send", path, "hello", "--engine", engine.rawValue])
        let server = try listener.accept()
        _ = try server.receive(exactly: 2)
        server.close()
        #expect(try client.waitForExit() == .exited(1))
        #expect(client.standardErrorText.contains("of 6 bytes came back"), "\(client.standardErrorText)")
    }

    private func serve(_ path: String, _ engine: Engine) throws -> ChildProcess {
        let server = try Example.start("unix-echo", ["serve", path, "--engine", engine.rawValue])
        #expect(try server.readLine() == "Listening on unix:\(path)")
        return server
    }

    private func send(_ path: String, _ text: String, _ engine: Engine, _ more: [String] = []) throws -> String {
        let client = try Example.start("unix-echo", ["send", path, text, "--engine", engine.rawValue] + more)
        #expect(try client.waitForExit() == .exited(0), "\(client.standardErrorText)")
        return client.standardOutputText
    }

    private func mode(of path: String) throws -> mode_t {
        var information = stat()
        try #require(stat(path, &information) == 0)
        return information.st_mode & 0o777
    }
}

@Suite(.timeLimit(.minutes(20)))
struct `Command lines` {
    @Test(arguments: [
        ("chat", ["--port", "70000"], "port 70000 is not between 0 and 65535"),
        ("chat", ["--host", "nowhere"], "\"nowhere\" is no IPv4 address"),
        ("chat", ["--engine", "kqueue"], "The value 'kqueue' is invalid"),
        ("async-client", ["https://localhost/"], "The value 'https://localhost/' is invalid"),
        ("async-client", ["http://localhost/a\r\nb"], "is invalid for '<urls>'"),
        ("async-client", ["http://[::1]:70000/"], "The value 'http://[::1]:70000/' is invalid"),
        ("async-client", ["--concurrency", "0", "http://a/"], "--concurrency 0 is not between 1 and 1000"),
        ("async-client", ["--timeout", "0", "http://a/"], "--timeout 0.0 is not between"),
        ("broker", ["--patience", "0"], "--patience 0.0 is not between"),
        ("socks5", ["--user", "ann"], "The value 'ann' is invalid"),
        ("chat", ["--patience", "0"], "--patience 0.0 is not between"),
        ("keyvalue", ["--memory", "0"], "--memory 0 is not between"),
        ("shards", ["--loops", "0"], "--loops 0 is not between"),
        ("shards", ["--keys", "0"], "--keys 0 is not between"),
        ("http-hello", ["--request-timeout", "-1"], "--request-timeout"),
        ("http-hello", ["--request-timeout=nan"], "--request-timeout"),
        ("https-hello", ["--key", "x"], "Missing expected argument '--certificate <file>'"),
        ("smtp-sink", ["--certificate", "x"], "Missing expected argument '--key <file>'"),
        ("tls-proxy", ["--certificate", "x", "--key", "x"], "Missing expected argument '--backend <host:port>'"),
        ("time-signal", ["--interval", "0"], "--interval 0.0 is not between"),
        ("rooms", ["--loops", "0"], "--loops 0 is not between 1 and 64"),
        ("proxy", ["--to", "nowhere"], "The value 'nowhere' is invalid"),
        ("proxy", ["--to", "host:0"], "The value 'host:0' is invalid"),
        ("proxy", [], "Missing expected argument '--to <host:port>'"),
        ("unix-echo", ["serve", ""], "the path is empty"),
        ("unix-echo", ["send", "x", "hello", "--times", "0"], "--times 0 is not between"),
    ])
    func `mistakes are told on standard error, with the status of sysexits`(
        program: String, arguments: [String], error: String
    ) throws {
        let child = try Example.start(program, arguments)
        #expect(try child.waitForExit() == .exited(64))
        #expect(child.standardErrorText.contains(error), "\(child.standardErrorText)")
    }

    @Test(arguments: ["broker", "chat", "rooms", "socks5", "keyvalue", "http-hello", "shards", "time-signal"])
    func `a port that is taken is told, with the address`(program: String) throws {
        let listener = try PlainListener()
        let child = try Example.start(program, ["--port", "\(listener.port)"])
        #expect(try child.waitForExit() == .exited(1))
        #expect(child.standardErrorText.contains("bind 127.0.0.1:\(listener.port): EADDRINUSE"))
    }
}
