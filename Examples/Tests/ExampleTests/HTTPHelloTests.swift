import CallbackServer
import ExampleTestSupport
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `HTTP hello` {
    @Test(arguments: Engine.allCases)
    func `curl gets the page, its head, and errors`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let url = "http://127.0.0.1:\(server.port)"
        #expect(try run("curl", ["-sS", url]) == "Hello, world!\n")
        let head = try run("curl", ["-sSI", url])
        #expect(head.hasPrefix("HTTP/1.1 200 OK\r\nDate: "))
        #expect(
            head.contains(/\r\nDate: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n/))
        #expect(head.hasSuffix("\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n"))
        // Two on one connection, the second behind an error.
        let log = ["-sS", "-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null"]
        let again = ["--next"] + log
        #expect(try run("curl", log + ["\(url)/none"] + again + ["\(url)/?q"]) == "404 1\n200 0\n")
        #expect(try run("curl", log + ["-d", "body", url] + again + [url]) == "405 1\n200 1\n")
        #expect(try run("curl", log + ["-H", "Connection: close", url] + again + [url]) == "200 1\n200 1\n")
        #expect(try run("curl", log + ["--http1.0", url] + again + [url]) == "200 1\n200 1\n")
        let large = "X: " + String(repeating: "x", count: 9_000)
        #expect(try run("curl", log + ["-H", large, url]) == "431 1\n")
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `wrk finds nothing amiss, with and without pipelining`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let directory = try TemporaryDirectory()
        let script = directory.path(of: "pipeline.lua")
        let pipeline = """
            init = function(args) requests = string.rep(wrk.format("GET", "/"), 16) end
            request = function() return requests end
            """
        _ = try run("socat", ["-u", "-", "CREATE:\(script)"], input: pipeline)
        for options in [[], ["-s", script]] {
            let output = try run(
                "wrk", ["-t", "1", "-c", "20", "-d", "1"] + options + ["http://127.0.0.1:\(server.port)/"])
            #expect(output.contains("Requests/sec"), "\(output)")
            #expect(!output.contains("Non-2xx") && !output.contains("Socket errors"), "\(output)")
        }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `requests come byte by byte, and many in one piece`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let client = try server.client()
        let request = "\r\nGET / HTTP/1.1\r\nHost: x\r\nX-Other:y\r\n\r\n"
        let other = try server.client()
        for byte in request.utf8 {
            try client.send([byte])
            // Twice: the first answer may leave in the turn in which the byte is read, the second leaves behind it.
            for _ in 0..<2 {
                try other.send(request)
                try expectPage(other)
            }
        }
        other.close()
        try expectPage(client)
        let count = 5_000
        let sender = onThread { try client.send(String(repeating: request, count: count)) }
        for _ in 0..<count { try expectPage(client) }
        try sender.value()
        client.close()
        try server.stop()
    }

    /// What is no request that can be answered, and its status. `Examples/Tests/Comparisons/http-hello.py` has more.
    private static let refused = [
        ("GET\r\n", "400 Bad Request"), ("GET / HTTP/1.1 x\r\n", "400 Bad Request"),
        ("GET  / HTTP/1.1\r\n", "400 Bad Request"), ("G(T / HTTP/1.1\r\n", "400 Bad Request"),
        ("GET x HTTP/1.1\r\n", "400 Bad Request"), ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /% HTTP/1.1\r\n", "400 Bad Request"), ("GET * HTTP/1.1\r\n", "400 Bad Request"),
        ("GET http:/x HTTP/1.1\r\n", "400 Bad Request"), ("GET http://a@x/ HTTP/1.1\r\n", "400 Bad Request"),
        ("GET https://x/ HTTP/1.1\r\n", "421 Misdirected Request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n", "400 Bad Request"), ("GET / HTTP/1.1\r\nHost: [::1\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost : a\r\n", "400 Bad Request"), ("GET / HTTP/1.1\r\nHost\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nA: a\r\n continued\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nA: a\rb\r\n", "400 Bad Request"), ("GET / HTTP/1.1\r\nA: \0\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", "413 Content Too Large"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n", "501 Not Implemented"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n", "413 Content Too Large"),
        ("GET / HTTP/1.1\r\nContent-Length: -1\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nContent-Length: +0\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nContent-Length: 0 0\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nContent-Length: \u{660}\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nContent-Length: 5, 6\r\n", "400 Bad Request"),
        ("GET / HTTP/2\r\n", "400 Bad Request"), ("GET / http/1.1\r\n", "400 Bad Request"),
        ("GET / HTTP/2.0\r\n", "505 HTTP Version Not Supported"),
        ("POST / HTTP/1.1\r\n", "405 Method Not Allowed"), ("GETS / HTTP/1.1\r\n", "501 Not Implemented"),
        ("GET /" + String(repeating: "x", count: 9_000), "414 URI Too Long"),
        ("GET /" + String(repeating: "x", count: 9_000) + " HTTP/1.1\r\n", "414 URI Too Long"),
        ("GET / HTTP/1.1\r\nA: " + String(repeating: "x", count: 9_000), "431 Request Header Fields Too Large"),
        (
            "GET / HTTP/1.1\r\n" + String(repeating: "A: 78901234567890\r\n", count: 500),
            "431 Request Header Fields Too Large"
        ),
    ]

    @Test(arguments: refused)
    func `what is no request that can be answered is refused, and then the connection ends`(
        input: String, status: String
    ) throws {
        for engine in Engine.allCases {
            let server = try Example("http-hello", engine)
            let answer = try answerToAll(input, server)
            #expect(answer.hasPrefix("HTTP/1.1 \(status)\r\n"), "\(answer)")
            #expect(answer.contains("\r\nConnection: close\r\n") && answer.hasSuffix("\r\n\r\n\(status)\n"))
            // RFC 9110, section 9.3.2.
            if input.hasPrefix("GET ") {
                let head = try answerToAll("HEAD" + input.dropFirst(3), server)
                #expect(
                    head.hasPrefix("HTTP/1.1 \(status)\r\n") && head.hasSuffix("\r\nConnection: close\r\n\r\n"),
                    "\(head)")
            }
            try server.stop()
        }
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nhOST:[::1]:80\r\n\r\n", "GET / HTTP/1.1\nHost: \t x:\t \nContent-Length:\t00\t\n\n",
        "GET / HTTP/1.1\r\nHost:\r\nContent-Length: 0, 0\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: x\r\nX: \u{e9}\t\r\n\r\n", "\r\n\nGET /?a/b?c=%20 HTTP/1.1\r\nHost: a%20b\r\n\r\n",
        "GET http://x HTTP/1.1\r\nHost: y\r\n\r\n", "GET HTTP://[::1]:80?q HTTP/1.1\r\nHost: y\r\n\r\n",
    ])
    func `what the grammar allows is answered with the page`(input: String) throws {
        for engine in Engine.allCases {
            let server = try Example("http-hello", engine)
            let client = try server.client()
            try client.send(input)
            let start = "HTTP/1.1 200 OK\r\n"
            #expect(String(decoding: try client.receive(exactly: start.utf8.count), as: UTF8.self) == start)
            client.close()
            try server.stop()
        }
    }

    private func answerToAll(_ input: String, _ server: Example) throws -> String {
        let client = try server.client()
        // More behind it than the kernel would forgive, were it left unread: a reset would cost the answer.
        try client.send(input + String(repeating: "\r\nmore", count: 50_000))
        let answer = String(decoding: try client.receiveUntilEnd(), as: UTF8.self)
        client.close()
        return answer
    }

    @Test(arguments: Engine.allCases)
    func `a head that takes too long is refused, however steadily it comes`(engine: Engine) throws {
        let server = try Example("http-hello", engine, ["--request-timeout", "0.5"])
        // One that goes on and on, a byte at a time, and one that stops in the middle.
        for (pause, beginning) in [
            (Duration.milliseconds(20), "GET / HTTP/1.1\r\nX: "), (Example.patience, "GET / HTTP/1.1\r\nX: "),
            (Example.patience, "HEAD / HTTP/1.1\r\nX: "), (Example.patience, "HEAD /"),
        ] {
            let client = try server.client()
            let start = ContinuousClock.now
            try client.send(beginning)
            while !client.isAnswered(within: pause) { try client.send("x") }
            #expect(ContinuousClock.now - start >= .milliseconds(500))
            let answer = String(decoding: try client.receiveUntilEnd(), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 408 Request Timeout\r\n"), "\(answer)")
            #expect(answer.hasSuffix("\r\n\r\n") == beginning.hasPrefix("HEAD"), "\(answer)")
            client.close()
        }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a pipeline whose answers nobody reads waits, and costs no memory`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let client = try server.client(receiveBuffer: 4_096)
        let requests = Array(String(repeating: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", count: 10_000).utf8)
        let memory = try peakResidentBytes(of: server.child)
        _ = try client.sendUntilFull(requests, most: 64 << 20)
        let other = try server.client()
        for _ in 0..<100 {
            try other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try expectPage(other)
        }
        other.close()
        #expect(try peakResidentBytes(of: server.child) - memory < 16 << 20)
        try client.reset()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `SIGTERM ends connections at rest, and the others behind their answer`(engine: Engine) throws {
        let server = try Example("http-hello", engine)
        let (resting, busy) = (try server.client(), try server.client())
        for client in [resting, busy] {
            try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try expectPage(client)
        }
        try busy.send("GET / HTTP/1.1\r\nHo")
        // The resting one's answer comes behind the other's bytes, which the server has therefore seen.
        try resting.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try expectPage(resting)
        server.child.signal(SIGTERM)
        try resting.expectEnd()
        resting.close()
        try busy.send("st: x\r\n\r\n")
        let answer = String(decoding: try busy.receiveUntilEnd(), as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nConnection: close\r\n"))
        busy.close()
        #expect(try server.child.waitForExit() == .exited(0))
    }

    private func expectPage(_ client: PlainClient) throws {
        // The Date's length never changes.
        let page =
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
            + "Content-Length: 14\r\n\r\nHello, world!\n"
        let answer = String(decoding: try client.receive(exactly: page.utf8.count), as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.hasSuffix("\r\n\r\nHello, world!\n"))
    }
}
