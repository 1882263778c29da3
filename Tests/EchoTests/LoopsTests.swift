import CallbackServer
import Glibc
import TestSupport
import Testing

/// `echo --loops N`, seen from outside.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Echo on several loops` {
    @Test(arguments: Engine.allCases)
    func `serves its clients on as many threads, and ends as ever`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--loops", "2", "--quiet"])
        let clients = try (0..<6).map { _ in try echo.client() }
        for client in clients { try client.echoExactly(100_000) }
        let names = try threadNames(of: echo.child.pid).filter { $0.hasPrefix("loop ") }
        #expect(names.sorted() == ["loop 0", "loop 1"])
        echo.child.signal(SIGTERM)
        // Each finishes what it has begun.
        for client in clients {
            try client.echoExactly(1_000)
            client.close()
        }
        #expect(try echo.child.waitForExit() == .exited(0))
        try waitUntilRefused(port: echo.port)
    }

    @Test(arguments: Engine.allCases)
    func `the chapter's lines are the same`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--loops", "0"])
        let client = try echo.client()
        #expect(try echo.child.readLine().hasSuffix(", ip is : 127.0.0.1, port : \(client.localPort)"))
        try client.send("hello")
        #expect(try echo.child.readLine() == "Received: hello")
        let port = client.localPort
        client.close()
        #expect(try echo.child.readLine() == "Host disconnected, ip 127.0.0.1, port \(port)")
        try echo.stop()
    }

    @Test func `serves a Unix socket, and refuses a count out of bounds`() throws {
        let folder = try TemporaryDirectory()
        let path = folder.path + "/echo"
        let child = try EchoProcess.start(["--unix", path, "--loops", "2"])
        #expect(try child.readLine().hasSuffix(path))
        try PlainClient(unixPath: path).echoExactly(1_000)
        child.signal(SIGTERM)
        #expect(try child.waitForExit() == .exited(0))
        for count in ["-1", "1025", "x"] {
            let refused = try EchoProcess.start(["--port", "0", "--loops=\(count)"])
            #expect(try refused.waitForExit() == .exited(64))
        }
    }
}
