import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What echo sends back` {
    @Test(arguments: Engine.allCases)
    func `exactly the bytes that came, NULs included`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        let bytes = [0, 1, 0, 255] + [UInt8](repeating: 0, count: 1_024) + pseudoRandomBytes(count: 1_024)
        try client.send(bytes)
        #expect(try client.receive(exactly: bytes.count) == bytes)
        try client.echoExactly(4 << 20, seed: 9)
        client.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `all that was received, when the client has finished sending`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        let bytes = pseudoRandomBytes(count: 100_000)
        let reader = onThread { try client.receiveUntilEnd() }
        try client.send(bytes)
        try client.halfClose()
        #expect(try reader.value(timeLimit: .seconds(10)) == bytes)
        client.close()
        try echo.stop()
    }

    @Test(.enabled(if: program("socat") != nil, "socat is not installed"), arguments: Engine.allCases)
    func `the same to socat`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let socat = try ChildProcess(try #require(program("socat")), ["-t", "5", "-", "TCP:127.0.0.1:\(echo.port)"])
        try socat.standardInput.send("from socat\n")
        socat.standardInput.close()
        #expect(try socat.waitForExit() == .exited(0))
        #expect(socat.standardOutputText == "from socat\n")
        try echo.stop()
    }

    @Test(.enabled(if: program("nc") != nil, "nc is not installed"), arguments: Engine.allCases)
    func `the same to nc`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let nc = try ChildProcess(try #require(program("nc")), ["-N", "127.0.0.1", "\(echo.port)"])
        try nc.standardInput.send("from nc\n")
        nc.standardInput.close()
        #expect(try nc.waitForExit() == .exited(0))
        #expect(nc.standardOutputText == "from nc\n")
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `nothing to clients beyond the limit, until one has gone`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet", "--max-connections", "2"])
        let first = try echo.client()
        let second = try echo.client()
        for client in [first, second] {
            try client.send("x")
            _ = try client.receive(exactly: 1)
        }
        let third = try PlainClient(port: echo.port, timeLimit: .milliseconds(200))
        try third.send("y")
        #expect(throws: PeerError.self) { try third.receive(exactly: 1) }
        first.close()
        let patient = PlainClient(adopting: fcntl(third.descriptor, F_DUPFD_CLOEXEC, 0))
        third.close()
        #expect(try patient.receive(exactly: 1) == Array("y".utf8))
        second.close()
        patient.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `the end to a client that is silent for too long`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet", "--idle-timeout", "0.3"])
        let client = try echo.client()
        try client.send("x")
        let start = ContinuousClock.now
        _ = try client.receive(exactly: 1)
        try client.expectEnd()
        #expect(ContinuousClock.now - start >= .milliseconds(290))
        try echo.stop()
    }
}

/// Where an installed program is.
private func program(_ name: String) -> String? {
    ["/usr/bin/", "/bin/", "/usr/local/bin/"].map { $0 + name }.first { access($0, X_OK) == 0 }
}
