import CallbackServer
import ExampleTestSupport
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `Key-value` {
    @Test(arguments: Engine.allCases)
    func `redis-cli gets Redis's answers`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        for (command, answer) in [
            ("PING", "PONG"), ("ping hello", "\"hello\""), ("GET k", "(nil)"), ("SET k v", "OK"), ("GET k", "\"v\""),
            ("EXISTS k k none", "(integer) 2"), ("TTL k", "(integer) -1"), ("EXPIRE k 100", "(integer) 1"),
            ("TTL k", "up to 100"), ("SET k w", "OK"), ("TTL k", "(integer) -1"), ("SET k 7 EX 50", "OK"),
            ("INCR k", "(integer) 8"), ("TTL k", "up to 50"), ("DEL k none", "(integer) 1"),
            ("TTL k", "(integer) -2"), ("EXPIRE k 1", "(integer) 0"), ("INCR new", "(integer) 1"),
            ("SET k v px 100000", "OK"), ("TTL k", "up to 100"), ("EXPIRE k -1", "(integer) 1"),
            ("GET k", "(nil)"), ("CONFIG GET save", "1) \"save\"\n2) \"\""), ("HELLO 3", "(error) NOPROTO"),
            ("SET k v EX 0", "(error) ERR invalid expire time in 'set' command"),
            ("SET k v EX 9223372036854775", "(error) ERR invalid expire time in 'set' command"),
            ("SET k v EX x", "(error) ERR value is not an integer or out of range"),
            ("SET k v NONSENSE", "(error) ERR syntax error"),
            ("GET", "(error) ERR wrong number of arguments for 'get' command"),
            ("NONSENSE a", "(error) ERR unknown command 'NONSENSE', with args beginning with: 'a'"),
            ("SET n 9223372036854775807", "OK"), ("INCR n", "(error) ERR increment or decrement would overflow"),
            ("SET n -9223372036854775808", "OK"), ("INCR n", "(integer) -9223372036854775807"),
            ("SET n 9223372036854775808", "OK"),
            ("INCR n", "(error) ERR value is not an integer or out of range"),
        ] {
            let arguments = ["-p", "\(server.port)", "--no-raw"] + command.split(separator: " ").map(String.init)
            let output = try run("redis-cli", arguments)
            if let most = answer.split(separator: "up to ").first.flatMap({ Int($0) }) {
                // However long a slow machine has taken.
                let seconds = try #require(Int(output.dropFirst("(integer) ".count).dropLast()))
                #expect((1...most).contains(seconds), "\(command): \(output)")
            } else {
                #expect(output.hasPrefix(answer), "\(command): \(output)")
            }
        }
        try server.stop()
    }

    /// Without a terminal, redis-cli takes commands from its input; with `-3` and in its hints it asks for more.
    @Test(arguments: Engine.allCases)
    func `redis-cli reads commands from its input, and pipes them in bulk`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let typed = try run("redis-cli", ["-p", "\(server.port)"], input: "SET \"a b\" \"\\x00\\xff\"\nGET \"a b\"\n")
        #expect(typed.hasPrefix("OK\n"))
        let commands = (1...20_000).map { "SET key\($0) value\($0)\r\n" }.joined()
        let piped = try run("redis-cli", ["-p", "\(server.port)", "--pipe"], input: commands)
        #expect(piped.contains("errors: 0, replies: 20000"), "\(piped)")
        #expect(try run("redis-cli", ["-p", "\(server.port)", "GET", "key20000"]) == "value20000\n")
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `redis-benchmark finds nothing amiss, with and without pipelining`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        for pipeline in ["1", "16", "500"] {
            let options = ["-p", "\(server.port)", "-n", "5000", "-P", pipeline, "-t", "ping,set,get,incr", "-q"]
            let output = try run("redis-benchmark", options)
            #expect(!output.lowercased().contains("err") && !output.contains("WARNING"), "\(output)")
            #expect(output.matches(of: /requests per second/).count == 5, "\(output)")
        }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `commands come byte by byte, and several in one piece`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        let commands =
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n  \r\n*0\r\n"
        let other = try server.client()
        for byte in commands.utf8 {
            try client.send([byte])
            // Twice: the first answer may leave in the turn in which the byte is read, the second leaves behind it.
            for _ in 0..<2 { try other.ask("PING\r\n", "+PONG\r\n") }
        }
        other.close()
        try client.expect("+OK\r\n$4\r\n\r\n\0\n\r\n+PONG\r\n")
        try client.ask(commands + commands, "+OK\r\n$4\r\n\r\n\0\n\r\n+PONG\r\n+OK\r\n$4\r\n\r\n\0\n\r\n+PONG\r\n")
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `any bytes are a key and a value, up to the longest`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        for size in [0, 1, 255, 65_536, 1_048_576] {
            let (key, value) = (pseudoRandomBytes(count: 100, seed: 1), pseudoRandomBytes(count: size, seed: 2))
            try client.send(request([Array("SET".utf8), key, value]))
            try client.expect("+OK\r\n")
            try client.send(request([Array("GET".utf8), key]))
            try client.expect("$\(size)\r\n")
            #expect(try client.receive(exactly: size) == value)
            try client.expect("\r\n")
        }
        client.close()
        try server.stop()
    }

    @Test(arguments: [
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999999999999\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"), ("*1\r\n$1048577\r\n", "invalid bulk length"),
        ("*1\r\n$99999999999999999999\r\n", "invalid bulk length"), ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$3x\r\n", "invalid bulk length"), ("*x\r\n", "invalid multibulk length"),
        ("*1025\r\n", "invalid multibulk length"), ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"), ("*1\r\n\r\n", "expected '$', got ' '"),
        ("*1\r\n\u{1b}\r\n", "expected '$', got '\u{1b}'"), ("*01\r\n", "invalid multibulk length"),
        ("*1\r\n$04\r\n", "invalid bulk length"), ("*1\r\n$-0\r\n", "invalid bulk length"),
        ("GET \"k\r\n", "unbalanced quotes in request"), ("GET \"k\"x\r\n", "unbalanced quotes in request"),
        ("GET \0\r\n", "NUL in inline request"),
        (String(repeating: "x", count: 4_098), "too big inline request"),
        ("*1\r\n$" + String(repeating: "0", count: 4_098), "too big bulk count string"),
    ])
    func `what is no request is answered with the error, and then the end`(input: String, error: String) throws {
        for engine in Engine.allCases {
            let server = try Example("keyvalue", engine)
            let client = try server.client()
            // What came before it is answered; what comes behind it is not.
            try client.send("PING\r\n" + input + "PING\r\n")
            try client.expect("+PONG\r\n-ERR Protocol error: \(error)\r\n")
            try client.expectEnd()
            client.close()
            try server.stop()
        }
    }

    /// A web page can make its reader's browser send POST with a body of its choice to any port.
    @Test(arguments: [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\n", "post\r\n", "*1\r\n$4\r\nPOST\r\n", "HOST: x\r\n",
        "*1\r\n$5\r\nhost:\r\n",
    ])
    func `nothing behind a web request is performed, and the connection ends`(request: String) throws {
        for engine in Engine.allCases {
            let server = try Example("keyvalue", engine)
            let client = try server.client()
            // More behind it than the kernel would forgive, were it left unread.
            try client.send("PING\r\n" + request + String(repeating: "SET k v\r\n", count: 50_000))
            try client.expect("+PONG\r\n")
            try client.expectEnd()
            client.close()
            let other = try server.client()
            try other.ask("GET k\r\n", "$-1\r\n")
            try other.ask("GET / HTTP/1.1\r\n", "-ERR wrong number of arguments for 'get' command\r\n")
            try other.send("Host: x\r\nSET k v\r\n")
            try other.expectEnd()
            other.close()
            try server.stop()
        }
    }

    @Test(arguments: Engine.allCases)
    func `a command's letters have the cases of ASCII, and a number has one form`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        try client.ask("sEt k 7\r\n", "+OK\r\n")
        try client.ask("\u{17f}et k 8\r\n", "-ERR unknown command '\u{17f}et', with args beginning with: 'k' '8' \r\n")
        for number in ["007", "-0", "+7", "7.0", "' 7'", "''"] {
            try client.ask("SET n \(number)\r\n", "+OK\r\n")
            try client.ask("INCR n\r\n", "-ERR value is not an integer or out of range\r\n")
            try client.ask("EXPIRE k \(number)\r\n", "-ERR value is not an integer or out of range\r\n")
            try client.ask("SET k 9 EX \(number)\r\n", "-ERR value is not an integer or out of range\r\n")
        }
        try client.ask("GET k\r\n", "$1\r\n7\r\n")
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `clients that finish no request share a bound, and the largest of them is dropped`(engine: Engine) throws {
        let server = try Example("keyvalue", engine, ["--memory", "32"])
        let memory = try peakResidentBytes(of: server.child)
        let honest = try server.client()
        // Its request begins, and ends when the others have filled their share, of 8 MiB.
        try honest.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n")
        let half = Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n".utf8) + [UInt8](repeating: 0, count: 900_000)
        var clients: [PlainClient] = []
        var dropped = 0
        for _ in 0..<40 {
            let client = try server.client()
            try client.send(half)
            // Its bytes have been read when this is answered, or the other's have.
            let other = try server.client()
            for _ in 0..<20 { try other.ask("PING\r\n", "+PONG\r\n") }
            other.close()
            clients.append(client)
        }
        for client in clients where client.isAnswered(within: .zero) {
            try client.expect("-OOM command not allowed when used memory > 'maxmemory'.\r\n")
            try client.expectEnd()
            dropped += 1
        }
        #expect(dropped >= 30)
        try honest.ask("v\r\n", "+OK\r\n")
        try honest.ask("GET k\r\n", "$1\r\nv\r\n")
        #expect(try peakResidentBytes(of: server.child) - memory < 24 << 20)
        for client in clients + [honest] { client.close() }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `what waits unfinished takes a value's place`(engine: Engine) throws {
        let server = try Example("keyvalue", engine, ["--memory", "1"])
        let (client, other) = (try server.client(), try server.client())
        try client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$700000\r\n" + String(repeating: "v", count: 699_999))
        let request = self.request(["SET", "b", String(repeating: "v", count: 400_000)])
        // Until the server has read the other's.
        while true {
            try other.send(request)
            if try other.receive(exactly: 5) == Array("+OK\r\n".utf8) {
                // Or it would have its place for good.
                try other.ask(self.request(["DEL", "b"]), ":1\r\n")
                continue
            }
            try other.expect("command not allowed when used memory > 'maxmemory'.\r\n")
            break
        }
        try client.reset()
        client.close()
        while true {
            try other.send(request)
            if try other.receive(exactly: 5) == Array("+OK\r\n".utf8) { break }
            try other.expect("command not allowed when used memory > 'maxmemory'.\r\n")
        }
        other.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a negative number of arguments is a request for nothing`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        try client.ask("*-1\r\n*-9\r\nPING\r\n", "+PONG\r\n")
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a pipeline whose answers nobody reads waits, and costs no memory`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        let value = pseudoRandomBytes(count: 1 << 20)
        try client.send(request([Array("SET".utf8), Array("k".utf8), value]))
        try client.expect("+OK\r\n")
        let memory = try peakResidentBytes(of: server.child)
        // A tenth of a TiB of answers for each, if they were made.
        let requests = String(repeating: "GET k\r\n", count: 100_000)
        _ = try client.sendUntilFull(Array(requests.utf8), most: 64 << 20)
        for _ in 0..<100 {
            try client.expect("$1048576\r\n")
            #expect(try client.receive(exactly: value.count) == value)
            try client.expect("\r\n")
        }
        // Another client is served meanwhile.
        let other = try server.client()
        try other.ask("PING\r\n", "+PONG\r\n")
        other.close()
        #expect(try peakResidentBytes(of: server.child) - memory < 32 << 20)
        try client.reset()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a huge pipeline is answered in order, whole`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        let count = 50_000
        let reader = onThread { try client.receive(exactly: (1...count).reduce(0) { $0 + ":\($1)\r\n".utf8.count }) }
        let sender = onThread { try client.send(String(repeating: "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n", count: count)) }
        let answers = String(decoding: try reader.value(timeLimit: Example.patience), as: UTF8.self)
        try sender.value()
        #expect(answers == (1...count).map { ":\($0)\r\n" }.joined())
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a key is there until it expires, and its memory comes back`(engine: Engine) throws {
        let server = try Example("keyvalue", engine, ["--memory", "1"])
        let client = try server.client()
        let value = String(repeating: "v", count: 700_000)
        func set(_ key: String, _ more: String = "") -> String {
            request(["SET", key, value] + more.split(separator: " ").map(String.init))
        }
        try client.ask(set("a"), "+OK\r\n")
        try client.ask(set("b"), "-OOM command not allowed when used memory > 'maxmemory'.\r\n")
        let start = ContinuousClock.now
        try client.ask(set("a", "PX 300"), "+OK\r\n")
        // Until it has gone: no sleep, and no moment that a slow machine could miss.
        while try isThere("a", client) { continue }
        #expect(ContinuousClock.now - start >= .milliseconds(300))
        try client.ask(set("b"), "+OK\r\n")
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `resets in the middle of requests cost nothing that stays`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let memory = try peakResidentBytes(of: server.child)
        let half = Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n".utf8) + [UInt8](repeating: 0, count: 500_000)
        for _ in 0..<200 {
            let client = try server.client()
            try client.ask("PING\r\n", "+PONG\r\n")
            try client.send(half)
            try client.reset()
        }
        let client = try server.client()
        try client.ask("GET k\r\n", "$-1\r\n")
        #expect(try peakResidentBytes(of: server.child) - memory < 32 << 20)
        client.close()
        try server.stop()
    }

    /// 1 MiB in the kernel's hands, for a client that reads 200 kB/s: more than five seconds.
    @Test(arguments: Engine.allCases, [false, true])
    func `a slow client gets all of its answer, after SIGTERM and after QUIT`(engine: Engine, isQuit: Bool) throws {
        let server = try Example("keyvalue", engine, ["--drain", "60"])
        let client = try server.client()
        let value = pseudoRandomBytes(count: 1 << 20)
        try client.send(request([Array("SET".utf8), Array("k".utf8), value]))
        try client.expect("+OK\r\n")
        try client.send("GET k\r\n" + (isQuit ? "QUIT\r\n" : ""))
        #expect(client.isAnswered(within: Example.patience))
        if !isQuit { server.child.signal(SIGTERM) }
        let answer = Array("$1048576\r\n".utf8) + value + Array((isQuit ? "\r\n+OK\r\n" : "\r\n").utf8)
        let received = try readSlowly(client)
        #expect(received.count == answer.count)
        // Not in the macro, which would print them.
        let isWhole = received == answer
        #expect(isWhole)
        client.close()
        if isQuit { server.child.signal(SIGTERM) }
        #expect(try server.child.waitForExit() == .exited(0))
        #expect(server.child.standardOutputText.contains("\(isQuit ? 0 : 1) finished, 0 were cut off"))
    }

    /// Reads to the end, 10 kB each 50 ms; throws if that is no proper one.
    private func readSlowly(_ client: PlainClient) throws -> [UInt8] {
        let loop = try EventLoop(engine: .poll)
        var answer: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 10_000)
        var (isOver, error) = (false, Int32(0))
        loop.schedule(after: .zero, repeating: .milliseconds(50)) { timer in
            let count = recv(client.descriptor, &piece, piece.count, Int32(MSG_DONTWAIT))
            if count > 0 { return answer += piece.prefix(count) }
            if count < 0, errno == EAGAIN { return }
            (isOver, error) = (true, count < 0 ? errno : 0)
            timer.cancel()
        }
        while !isOver { try loop.run(.once) }
        try #require(error == 0)
        return answer
    }

    @Test(arguments: Engine.allCases)
    func `SIGTERM answers what was asked and ends the connection`(engine: Engine) throws {
        let server = try Example("keyvalue", engine)
        let client = try server.client()
        try client.ask("SET k v\r\n", "+OK\r\n")
        server.child.signal(SIGTERM)
        try client.expectEnd()
        client.close()
        #expect(try server.child.waitForExit() == .exited(0))
    }

    private func isThere(_ key: String, _ client: PlainClient) throws -> Bool {
        try client.send("EXISTS \(key)\r\n")
        return try client.receive(exactly: 4) == Array(":1\r\n".utf8)
    }

    private func request(_ arguments: [String]) -> String {
        String(decoding: request(arguments.map { Array($0.utf8) }), as: UTF8.self)
    }

    private func request(_ arguments: [[UInt8]]) -> [UInt8] {
        arguments.reduce(Array("*\(arguments.count)\r\n".utf8)) { request, argument in
            request + Array("$\(argument.count)\r\n".utf8) + argument + [13, 10]
        }
    }
}
