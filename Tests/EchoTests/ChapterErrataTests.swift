import CallbackServer
import Foundation
import Glibc
import TestSupport
import Testing

// One test for each defect of the chapter's programs that no other test shows. The numbers are those of
// Vendor-notes/chapter-errata.md, which says for each of them what the program does.

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What one client cannot do to echo` {
    @Test(arguments: Engine.allCases)
    func `2, messages around the size of a buffer come back, and nothing beside them`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        for size in [1_023, 1_024, 1_025, 65_535, 65_536, 65_537] {
            let bytes = pseudoRandomBytes(count: size, seed: UInt64(size))
            try client.send(bytes)
            #expect(try client.receive(exactly: size) == bytes)
        }
        try client.halfClose()
        try client.expectEnd()
        client.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `4, a reset is not taken for data, neither its own nor another client's`(engine: Engine) throws {
        let echo = try EchoProcess(engine)
        let other = try echo.client()
        let otherPort = other.localPort
        try other.send("another client's words")
        _ = try other.receive(exactly: 22)
        let client = try echo.client()
        let clientPort = client.localPort
        try echo.child.waitForLine(containing: "port : \(clientPort)")
        try client.reset()
        #expect(try echo.child.readLine() == "Host disconnected, ip 127.0.0.1, port \(clientPort)")
        other.close()
        #expect(try echo.child.readLine() == "Host disconnected, ip 127.0.0.1, port \(otherPort)")
        try echo.stop()
        #expect(echo.child.standardErrorText == "")
    }

    @Test(arguments: Engine.allCases)
    func `5, one that leaves without reading does not end the server`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        for _ in 0..<20 {
            let client = try echo.client()
            try client.send([UInt8](repeating: 0x78, count: 8_000))
            // Answers come to a socket that nobody holds: the kernel says RST to the first.
            client.close()
        }
        let client = try echo.client()
        try client.echoExactly(1_000)
        client.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `6, one that does not read holds up nobody else`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let idle = try PlainClient(port: echo.port, receiveBuffer: 65_536, sendBuffer: 65_536)
        _ = try sendUntilStuck(idle)
        let other = try echo.client()
        try other.echoExactly(100_000)
        idle.close()
        other.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `7, what the kernel does not take at once is sent later, every byte of it`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try PlainClient(port: echo.port, receiveBuffer: 65_536, sendBuffer: 65_536)
        let sent = try sendUntilStuck(client)
        #expect(try client.receive(exactly: sent.count) == sent)
        client.close()
        try echo.stop()
    }

    /// Sends until the server has taken nothing for 300 ms: it waits for this client to read. Gives what was sent.
    private func sendUntilStuck(_ client: PlainClient) throws -> [UInt8] {
        let bytes = pseudoRandomBytes(count: 48 << 20, seed: 6)
        var sent = 0
        var entry = pollfd(fd: client.descriptor, events: Int16(POLLOUT), revents: 0)
        while sent < bytes.count, poll(&entry, 1, 300) == 1 {
            sent += try client.sendSome(Array(bytes[sent..<min(sent + 65_536, bytes.count)]))
        }
        #expect(sent < bytes.count, "the server took everything from a client that does not read")
        return Array(bytes[..<sent])
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What many clients cannot do to echo` {
    @Test(arguments: Engine.allCases)
    func `8, the thirty-first client is served, and its descriptor given back`(engine: Engine) throws {
        let echo = try EchoProcess(engine)
        let atRest = try descriptorCount(of: echo)
        let clients = try (0..<100).map { _ in try echo.client() }
        for (number, client) in clients.enumerated() { try client.echoExactly(100, seed: UInt64(number)) }
        for client in clients {
            let port = client.localPort
            client.close()
            try echo.child.waitForLine(containing: "Host disconnected, ip 127.0.0.1, port \(port)")
        }
        // An engine may keep one or two descriptors that it opened for its first client.
        #expect(try descriptorCount(of: echo) <= atRest + 2)
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `11, at the descriptor limit it turns clients away, counts them and does not spin`(engine: Engine) throws {
        let echo = try EchoProcess(engine, descriptorLimit: 64)
        var served: [PlainClient] = []
        var shed = 0
        for _ in 0..<100 {
            let client = try echo.client()
            try client.send("x")
            // A client that is turned away sees the end, or a reset for the byte that nobody read.
            if let answer = try? client.receive(exactly: 1), answer == [0x78] {
                served.append(client)
            } else {
                shed += 1
            }
        }
        #expect(!served.isEmpty && shed > 0)
        let before = try cpuSeconds(of: echo.child.pid)
        #expect(throws: PeerError.self) { try served[0].waitUntilReadable(for: .milliseconds(500)) }
        #expect(try cpuSeconds(of: echo.child.pid) - before < 0.25)
        for client in served { try client.echoExactly(100) }
        for client in served { client.close() }
        try echo.stop()
        let counts = echo.child.standardOutputText.split(separator: "\n").compactMap { line in
            line.hasPrefix("Turned away ") ? Int(line.split(separator: " ")[2]) : nil
        }
        #expect(counts.reduce(0, +) == shed)
    }

    @Test(.enabled(if: access("/bin/bash", X_OK) == 0, "bash is not installed"), arguments: Engine.allCases)
    func `12, descriptors beyond 1024 are served, or refused by name`(engine: Engine) throws {
        // bash opens 1,100 descriptors and more that the server inherits, so that its own have higher numbers.
        let low = (3...9).map { "\($0)</dev/null" }.joined(separator: " ")
        let open = "exec \(low); for ((n = 0; n < 1100; n++)); do exec {fd}</dev/null; done; exec \"$@\""
        let command = [try ChildProcess.pathOfBuiltProduct("echo"), "--engine", engine.rawValue, "--port", "0"]
        let child = try ChildProcess("/bin/bash", ["-c", open, "bash"] + command, descriptorLimit: 2_048)
        if engine == .select {
            #expect(try child.waitForExit() == .exited(1))
            #expect(child.standardErrorText.contains("EMFILE"), "\(child.standardErrorText)")
            return
        }
        let client = try PlainClient(port: try port(of: child))
        let line = try child.readLine()
        let number = try #require(line.split(whereSeparator: { " ,".contains($0) }).compactMap { Int($0) }.first)
        #expect(number > 1_100, "\(line)")
        try client.echoExactly(1_000)
        client.close()
        child.signal(15)
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `18, clients that come while it is busy are kept waiting, not refused`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        echo.child.signal(SIGSTOP)
        // With a backlog of 3 the fifth would wait for a handshake that the kernel does not answer.
        let clients = try (0..<100).map { _ in try PlainClient(port: echo.port, timeLimit: .seconds(5)) }
        echo.child.signal(SIGCONT)
        for client in clients { try client.echoExactly(100) }
        for client in clients { client.close() }
        try echo.stop()
    }

    private func descriptorCount(of echo: EchoProcess) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/\(echo.child.pid)/fd").count
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What its surroundings cannot do to echo` {
    @Test(arguments: Engine.allCases)
    func `10, descriptor 0 is a descriptor like any other`(engine: Engine) throws {
        let command = [try ChildProcess.pathOfBuiltProduct("echo"), "--engine", engine.rawValue, "--port", "0"]
        let child = try ChildProcess("/bin/sh", ["-c", "exec \"$@\" <&-", "sh"] + command)
        let client = try PlainClient(port: try port(of: child))
        try client.echoExactly(1_000)
        client.close()
        child.signal(15)
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `10, no descriptor for a socket is an error with its name`(engine: Engine) throws {
        // Two descriptors beside 0, 1 and 2, those of the test runner closed: too few for any engine's loop and
        // listener. libuv itself would abort (Vendor-notes/libuv.md).
        let close = (3...9).map { "\($0)<&-" }.joined(separator: " ")
        let command = [try ChildProcess.pathOfBuiltProduct("echo"), "--engine", engine.rawValue, "--port", "0"]
        let child = try ChildProcess("/bin/sh", ["-c", "exec \(close); ulimit -n 5; exec \"$@\"", "sh"] + command)
        #expect(try child.waitForExit() == .exited(1))
        #expect(child.standardErrorText.contains("EMFILE"), "\(child.standardErrorText)")
        #expect(child.standardOutputText == "")
    }

    @Test(arguments: Engine.allCases)
    func `13, stopped and continued, it serves as before`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        try client.echoExactly(100)
        for _ in 0..<3 {
            // SIGCONT interrupts the wait with EINTR, though no handler is set (signal(7)).
            echo.child.signal(SIGSTOP)
            echo.child.signal(SIGCONT)
            try client.echoExactly(100)
        }
        client.close()
        try echo.stop()
    }
}

/// The port that a child says it listens on.
private func port(of child: ChildProcess) throws -> UInt16 {
    let line = try child.readLine()
    return try #require(UInt16(line.split(separator: " ").last ?? ""), "\(line)")
}

extension PlainClient {
    /// Waits for something to receive, with a limit of its own.
    fileprivate func waitUntilReadable(for timeLimit: Duration) throws {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, Int32(timeLimit.components.attoseconds / 1_000_000_000_000_000)) == 1 else {
            throw PeerError(call: "poll", cause: .timeLimit(timeLimit), waitedFor: "something to receive")
        }
    }
}
