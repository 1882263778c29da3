import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What echo prints` {
    @Test(arguments: Engine.allCases)
    func `the chapter's lines arrive one by one, in a pipe too`(engine: Engine) throws {
        let echo = try EchoProcess(engine)
        let client = try echo.client()
        let opened = try echo.child.readLine()
        #expect(opened.hasPrefix("New connection, socket fd is "))
        #expect(opened.hasSuffix(", ip is : 127.0.0.1, port : \(client.localPort)"))
        let clientPort = client.localPort
        try client.send("hello")
        #expect(try echo.child.readLine() == "Received: hello")
        #expect(try client.receive(exactly: 5) == Array("hello".utf8))
        client.close()
        #expect(try echo.child.readLine() == "Host disconnected, ip 127.0.0.1, port \(clientPort)")
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `the peer's address is right after a reset too`(engine: Engine) throws {
        let echo = try EchoProcess(engine)
        let client = try echo.client()
        _ = try echo.child.readLine()
        let port = client.localPort
        try client.reset()
        #expect(try echo.child.readLine() == "Host disconnected, ip 127.0.0.1, port \(port)")
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `quiet leaves only where it listens`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        try client.send("hello")
        _ = try client.receive(exactly: 5)
        client.close()
        try echo.stop()
        #expect(echo.child.standardOutputText == "Listening on port \(echo.port)\n")
        #expect(echo.child.standardErrorText == "")
    }

    @Test(arguments: [
        ("hello\r\n", "hello"), ("a\u{1b}[31mred\u{07}\n", "a\\u{1b}[31mred\\u{7}"), ("tab\there", "tab\\there"),
        ("back\\slash", "back\\\\slash"), ("two\nlines\n", "two\\nlines"), ("naïve 漢字 🙂", "naïve 漢字 🙂"),
        ("\u{202e}evil", "\\u{202e}evil"), ("\u{9b}31m", "\\u{9b}31m"), ("nul\u{0}nul", "nul\\u{0}nul"),
    ])
    func `no client writes to the operator's terminal`(sent: String, shown: String) throws {
        try expect(Array(sent.utf8), shown: shown)
    }

    @Test func `what is no UTF-8 is shown byte by byte`() throws {
        try expect([0x61, 0xff, 0xc3, 0x28, 0x62], shown: "a\\xff\\xc3(b")
    }

    @Test func `long payloads are cut and their length told`() throws {
        try expect([UInt8](repeating: 0x61, count: 1_000), shown: String(repeating: "a", count: 256) + "… (1000 bytes)")
        // The cut goes through the second byte of an é, which is not the client's fault.
        let text = "a" + String(repeating: "é", count: 200)
        try expect(Array(text.utf8), shown: "a" + String(repeating: "é", count: 127) + "… (401 bytes)")
    }

    private func expect(_ payload: [UInt8], shown: String) throws {
        let echo = try EchoProcess(.libuv)
        let client = try echo.client()
        _ = try echo.child.readLine()
        try client.send(payload)
        #expect(try client.receive(exactly: payload.count) == payload)
        #expect(try echo.child.readLine() == "Received: " + shown)
        client.close()
        try echo.stop()
    }
}
