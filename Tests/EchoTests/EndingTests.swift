import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `How echo ends` {
    @Test(arguments: Engine.allCases, [2, 15] as [Int32])
    func `a signal lets the clients finish`(engine: Engine, signal: Int32) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        try client.send("before")
        _ = try client.receive(exactly: 6)
        echo.child.signal(signal)
        // Refused from the moment the signal has arrived; then the old client is still served.
        while (try? PlainClient(port: echo.port)) != nil {}
        try client.send("after")
        #expect(try client.receive(exactly: 5) == Array("after".utf8))
        client.close()
        #expect(try echo.child.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `clients that do not finish in time are reset`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--drain", "0.2"])
        let client = try echo.client()
        try client.send("x")
        _ = try client.receive(exactly: 1)
        echo.child.signal(15)
        // FIN would say that the answer was whole.
        try client.expectReset()
        #expect(try echo.child.waitForExit() == .exited(0))
        #expect(echo.child.standardOutputText.contains("Host disconnected"))
    }

    @Test(arguments: Engine.allCases)
    func `a second signal ends it at once`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet", "--drain", "60"])
        let client = try echo.client()
        try client.send("x")
        _ = try client.receive(exactly: 1)
        echo.child.signal(2)
        while (try? PlainClient(port: echo.port)) != nil {}
        echo.child.signal(15)
        #expect(try echo.child.waitForExit(timeLimit: .seconds(5)) == .exited(128 + 15))
    }

    @Test(arguments: Engine.allCases)
    func `its port can be bound again at once`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet", "--drain", "0"])
        let client = try echo.client()
        try client.send("x")
        _ = try client.receive(exactly: 1)
        echo.child.signal(15)
        #expect(try echo.child.waitForExit() == .exited(0))
        let again = try EchoProcess.start(["--engine", engine.rawValue, "--port", "\(echo.port)", "--quiet"])
        #expect(try again.readLine() == "Listening on port \(echo.port)")
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Where echo listens` {
    @Test(arguments: Engine.allCases, [("::1", "::1"), ("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])
    func `hosts by address and by name`(engine: Engine, host: (given: String, reached: String)) throws {
        let echo = try EchoProcess(engine, ["--host", host.given, "--quiet"])
        // A machine may resolve localhost to ::1 first.
        let client =
            try (try? PlainClient(port: echo.port, host: host.reached)) ?? PlainClient(port: echo.port, host: "::1")
        try client.send("hello")
        #expect(try client.receive(exactly: 5) == Array("hello".utf8))
        client.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a Unix socket, whose file goes with it, also over a stale file`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "e.sock")
        for _ in 0..<2 {
            let child = try EchoProcess.start(["--engine", engine.rawValue, "--unix", path, "--quiet"])
            #expect(try child.readLine() == "Listening on unix:\(path)")
            let client = try PlainClient(unixPath: path)
            try client.send("hello")
            #expect(try client.receive(exactly: 5) == Array("hello".utf8))
            client.close()
            // Killed, it leaves the file behind, and the second round finds it stale.
            child.signal(9)
            try child.waitForExit()
            #expect(access(path, F_OK) == 0)
        }
        let last = try EchoProcess.start(["--engine", engine.rawValue, "--unix", path, "--quiet"])
        _ = try last.readLine()
        last.signal(15)
        #expect(try last.waitForExit() == .exited(0))
        #expect(access(path, F_OK) != 0)
    }

    @Test(arguments: Engine.allCases)
    func `an address that cannot be had is one line and exit 1`(engine: Engine) throws {
        let other = try PlainListener()
        let directory = try TemporaryDirectory()
        let cases: [(arguments: [String], words: [String])] = [
            (["--host", "127.0.0.1", "--port", "\(other.port)"], ["127.0.0.1:\(other.port)", "EADDRINUSE"]),
            (["--host", "does-not-exist.invalid", "--port", "0"], ["does-not-exist.invalid", "getaddrinfo"]),
            (["--host", "192.0.2.1", "--port", "0"], ["192.0.2.1:0", "EADDRNOTAVAIL"]),
            (["--unix", directory.path(of: "no/such.sock")], ["no/such.sock", "ENOENT"]),
            (["--unix", String(repeating: "x", count: 200)], ["ENAMETOOLONG"]),
        ]
        for (arguments, words) in cases {
            let child = try EchoProcess.start(["--engine", engine.rawValue] + arguments)
            #expect(try child.waitForExit() == .exited(1))
            let text = child.standardErrorText
            #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count == 2, "\(text)")
            for word in words { #expect(text.contains(word), "\(text)") }
            #expect(child.standardOutputText == "")
        }
    }

    @Test(arguments: [
        ["--port", "70000"], ["--port", "-1"], ["--port", "x"], ["--backlog", "0"], ["--max-connections", "0"],
        ["--drain", "-1"], ["--drain", "nan"], ["--idle-timeout", "0"], ["--engine", "nonsense"], ["--host", ""],
        ["--unix", ""], ["--nonsense"],
    ])
    func `bad arguments are exit 64`(arguments: [String]) throws {
        let child = try EchoProcess.start(arguments)
        #expect(try child.waitForExit() == .exited(64))
        #expect(child.standardErrorText.contains(arguments[0]))
    }
}
