import CallbackServer
import ExampleTestSupport
import Foundation
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `Async client` {
    @Test(arguments: Engine.allCases)
    func `it fetches from our own server, by name and by address`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let urls = ["http://127.0.0.1:\(server.port)/", "http://localhost:\(server.port)"]
        let lines = try fetch(urls, engine)
        for url in urls { try #require(lines.count { $0.isAnswer("200", 14, url) } == 1, "\(lines)") }
        try server.stop()
    }

    /// Files of some MB, whose time is told as well; `--concurrency 2` and 20 URLs.
    @Test(arguments: Engine.allCases)
    func `it fetches files from Python's http server, two at a time`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let size = 5_000_001
        try Data(pseudoRandomBytes(count: size)).write(to: URL(filePath: directory.path(of: "file")))
        let server = try ChildProcess(
            try tool("python3"),
            ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", directory.path])
        let greeting = try server.readLine(timeLimit: Example.patience)
        let port = try #require(greeting.firstMatch(of: /port (\d+)/)?.output.1)
        let files = (1...19).map { "http://127.0.0.1:\(port)/file?\($0)" }
        let missing = "http://127.0.0.1:\(port)/missing"
        let lines = try fetch(["--concurrency", "2", missing] + files, engine)
        #expect(lines.count == 20)
        for file in files { #expect(lines.count { $0.isAnswer("200", size, file) } == 1, "\(lines)") }
        #expect(lines.count { $0.hasPrefix("404, ") && $0.hasSuffix(" ms: \(missing)") } == 1, "\(lines)")
    }

    @Test(arguments: Engine.allCases)
    func `it has no more connections than it was told`(engine: Engine) throws {
        let listener = try PlainListener(timeLimit: Example.patience)
        let url = "http://127.0.0.1:\(listener.port)/"
        let client = try start(["--concurrency", "2", "--timeout", "100"] + Array(repeating: url, count: 20), engine)
        var open = [try accept(listener), try accept(listener)]
        for number in 1...20 {
            // Both wait for their answer.
            #expect(!isReadable(listener), "a third connection before answer \(number)")
            let peer = open.removeFirst()
            try peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            // It ends by itself, since it has it all.
            try peer.expectEnd()
            peer.close()
            if number <= 18 { open.append(try accept(listener)) }
        }
        #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(0))
        #expect(client.standardOutputText.split(separator: "\n").count { $0.hasPrefix("200, 2 bytes, ") } == 20)
    }

    @Test(
        arguments: Engine.allCases,
        [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 13),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding:Chunked\r\n\r\n00\r\nTrailer: yes\r\n\r\n", 0),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200\r\ncontent-length:3\r\n\r\nabc", 3),
            ("HTTP/1.0 200 OK\n\nto the end", 10),
        ])
    func `bodies are counted however they are framed, and however they come`(
        engine: Engine, answer: (text: String, count: Int)
    ) throws {
        let listener = try PlainListener()
        let url = "http://127.0.0.1:\(listener.port)/"
        for isCut in [false, true] {
            let client = try start([url], engine)
            let peer = try accept(listener)
            for piece in isCut ? answer.text.utf8.map({ [$0] }) : [Array(answer.text.utf8)] { try peer.send(piece) }
            try peer.halfClose()
            #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(0))
            let line = client.standardOutputText
            #expect(line.isAnswer("200", answer.count, url + "\n"), "\(line)")
        }
    }

    @Test(
        arguments: Engine.allCases,
        [
            ("SSH-2.0-OpenSSH_9.2\r\n", "no answer of HTTP/1"),
            ("", "the answer ends too early"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "the answer ends too early"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", "the answer ends too early"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "the answer ends too early"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", "a chunk is longer than its size"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "an unknown transfer coding"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "a length that is no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "a length that is no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n", "a body of more than 67108864 bytes"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000001\r\n", "a body of more than 67108864 bytes"
            ),
        ])
    func `an answer that is wrong is an error`(engine: Engine, answer: (text: String, error: String)) throws {
        let listener = try PlainListener()
        let url = "http://127.0.0.1:\(listener.port)/"
        let client = try start([url], engine)
        let peer = try accept(listener)
        try peer.send(answer.text)
        // The client may have reset it already.
        try? peer.halfClose()
        #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(1))
        #expect(client.standardOutputText == "error: \(url): \(answer.error)\n")
    }

    /// Far beyond the limits, until the client resets.
    @Test(
        arguments: Engine.allCases,
        [
            ("HTTP/1.1 200 OK\r\nX: ", "a head of more than 65536 bytes"),
            ("HTTP/1.1 200 OK\r\n\r\n", "a body of more than 67108864 bytes"),
        ])
    func `an endless answer is cut off, and costs no memory`(
        engine: Engine, answer: (start: String, error: String)
    ) throws {
        let listener = try PlainListener(timeLimit: Example.patience)
        let url = "http://127.0.0.1:\(listener.port)/"
        let client = try start(["--timeout", "100", url], engine)
        let peer = try accept(listener)
        try peer.send(answer.start)
        let piece = [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 20)
        var sent = 0
        var peak = 0
        let error = #expect(throws: PeerError.self) {
            while sent < 200 << 20 {
                try peer.send(piece)
                sent += piece.count
                // There is none to read once it has ended.
                peak = max(peak, (try? peakResidentBytes(of: client)) ?? 0)
            }
        }
        #expect([ECONNRESET, EPIPE].contains(error?.errno), "\(String(describing: error))")
        #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(1))
        #expect(client.standardOutputText == "error: \(url): \(answer.error)\n")
        #expect(peak < 60 << 20)
    }

    /// Nobody listens; a listener that nobody accepts from; one who says nothing; one who says something now and then.
    @Test(arguments: Engine.allCases)
    func `what fails is told, and disturbs no other`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let (gone, full, silent) = (try PlainListener(), try PlainListener(), try PlainListener())
        let refused = "http://127.0.0.1:\(gone.port)/"
        gone.close()
        try waitUntilRefused(port: UInt16(refused.split(separator: /[:\/]/)[2]) ?? 0)
        let (unheard, unanswered) = ("http://127.0.0.1:\(full.port)/", "http://localhost:\(silent.port)/")
        let good = "http://127.0.0.1:\(server.port)/"
        let client = try start(["--timeout", "0.5", refused, unheard, unanswered, good], engine)
        let peer = try accept(silent)
        #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(1))
        try peer.expectReset()
        let lines = client.standardOutputText.split(separator: "\n").map(String.init)
        #expect(lines.count == 4)
        #expect(lines.count { $0.isAnswer("200", 14, good) } == 1, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("error: \(refused): ") && $0.contains("ECONNREFUSED") }, "\(lines)")
        for url in [unheard, unanswered] {
            #expect(lines.contains("error: \(url): no whole answer within 0.5 seconds"), "\(lines)")
        }
        try server.stop()
    }

    private func start(_ arguments: [String], _ engine: Engine) throws -> ChildProcess {
        try Example.start("async-client", ["--engine", engine.rawValue] + arguments)
    }

    /// Fetches all without an error; returns the lines.
    private func fetch(_ arguments: [String], _ engine: Engine) throws -> [String] {
        let client = try start(["--timeout", "100"] + arguments, engine)
        #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(0), "\(client.standardErrorText)")
        return client.standardOutputText.split(separator: "\n").map(String.init)
    }

    /// A client, and the request that it has sent.
    private func accept(_ listener: PlainListener) throws -> PlainClient {
        let peer = try listener.accept()
        #expect(try peer.receiveLine() == "GET / HTTP/1.1\r")
        #expect(try peer.receiveLine().hasSuffix(":\(listener.port)\r"))
        #expect(try peer.receiveLine() == "Connection: close\r")
        #expect(try peer.receiveLine() == "\r")
        return peer
    }

    private func isReadable(_ listener: PlainListener) -> Bool {
        var entry = pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) > 0
    }
}

extension String {
    /// Whether this is the line for such an answer, however long it took.
    fileprivate func isAnswer(_ status: String, _ count: Int, _ url: String) -> Bool {
        hasPrefix("\(status), \(count) bytes, ") && hasSuffix(" ms: \(url)")
    }
}
