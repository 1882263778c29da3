import CallbackServer
import Dispatch
import ExampleTestSupport
import Glibc
import Synchronization
import Testing

@testable import shards

@Suite(.timeLimit(.minutes(20)))
struct `Shards` {
    @Test(arguments: Engine.allCases)
    func `what one client sets, the clients of all loops get, and count`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "3"])
        // Two on each loop.
        let clients = try (0..<6).map { _ in try server.client() }
        for (number, client) in clients.enumerated() {
            for key in 0..<20 { try client.ask("SET \(number)/\(key) a value \(key)\n", "OK\n") }
        }
        for client in clients {
            for number in clients.indices {
                for key in 0..<20 { try client.ask("GET \(number)/\(key)\n", "VALUE a value \(key)\n") }
            }
            try client.ask("COUNT\n", "120\n")
        }
        try clients[0].ask("DEL 5/7\n", "OK\n")
        try clients[1].ask("DEL 5/7\n", "NONE\n")
        try clients[2].ask("GET 5/7\r\n", "NONE\n")
        try clients[3].ask("SET 5/8 \n", "OK\n")
        try clients[4].ask("GET 5/8\n", "VALUE \n")
        try clients[5].ask("COUNT\n", "119\n")
        for client in clients { client.close() }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `nc gets an answer to each line, also behind the end of its input`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "3"])
        func nc(_ lines: String) throws -> String {
            try run("nc", ["-N", "127.0.0.1", "\(server.port)"], input: lines)
        }
        #expect(
            try nc("SET a 1\nSET b 2\nSET c 3\nCOUNT\nGET a\nGET b\nGET c\n")
                == "OK\nOK\nOK\n3\nVALUE 1\nVALUE 2\nVALUE 3\n")
        #expect(try nc("GET a\nQUIT\nGET b\n") == "VALUE 1\nOK\n")
        #expect(try nc("GET b\nDEL a") == "VALUE 2\nERROR the last line has no end\n")
        #expect(try nc("COUNT\n") == "3\n")
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `10,000 requests in a pipeline are answered in order, whole, whichever shards they ask`(
        engine: Engine
    ) throws {
        let server = try Example("shards", engine, ["--loops", "4"])
        let clients = try (0..<3).map { number in (number, try server.client()) }
        let threads = clients.map { number, client in
            onThread { try playPipeline(client, count: 10_000, name: "\(number)") }
        }
        for thread in threads { try thread.value(timeLimit: Example.patience) }
        for (_, client) in clients { client.close() }
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `COUNT counts what its client has asked before it, and nothing behind`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "4"])
        let client = try server.client()
        try client.send((1...500).map { "SET \($0) x\nCOUNT\n" }.joined())
        try client.expect((1...500).map { "OK\n\($0)\n" }.joined())
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `what is beyond a limit is refused, and the next request answered`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "2"])
        let client = try server.client()
        func text(_ count: Int) -> String { String(repeating: "x", count: count) }
        for command in ["GET", "DEL"] {
            try client.ask("\(command) \(text(250))\n", "NONE\n")
            try client.ask("\(command) \(text(251))\n", "ERROR a key has 1 to 250 bytes\n")
            try client.ask("\(command) \n", "ERROR a key has 1 to 250 bytes\n")
        }
        try client.ask("SET \(text(251)) v\n", "ERROR a key has 1 to 250 bytes\n")
        try client.ask("SET k \(text(4_097))\n", "ERROR a value has at most 4096 bytes\n")
        try client.ask("GET k\n", "NONE\n")
        try client.ask("SET k \(text(4_096))\nGET k\n", "OK\nVALUE \(text(4_096))\n")
        for line in ["", "get k", "GET", "GET k l", "SET k", "COUNT k", "QUIT now", "\u{0}"] {
            try client.ask("\(line)\n", "ERROR a request is GET key, SET key value, DEL key, COUNT or QUIT\n")
        }
        try client.ask("SET k \(text(16 * 1_024 - 6))\n", "ERROR a value has at most 4096 bytes\n")
        try client.send("SET k \(text(16 * 1_024 - 5))\n")
        #expect(try client.receiveUntilOver().bytes == [])
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a full shard takes no new key, and new values for the old ones`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "1", "--keys", "2"])
        let client = try server.client()
        try client.ask("SET a 1\nSET b 2\nSET c 3\n", "OK\nOK\nERROR the shard has 2 keys already\n")
        try client.ask("SET a 4\nDEL b\nSET c 5\nCOUNT\n", "OK\nOK\nOK\n2\n")
        client.close()
        try server.stop()
    }

    @Test(arguments: Engine.allCases)
    func `clients that go while they are answered leave nothing behind`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "3"])
        let stayer = try server.client()
        let value = String(repeating: "v", count: 4_000)
        for key in 0..<10 { try stayer.ask("SET \(key) \(value)\n", "OK\n") }
        let memory = try peakResidentBytes(of: server.child)
        let requests = (0..<500).map { "GET \($0 % 10)\nCOUNT\n" }.joined()
        for round in 0..<300 {
            let client = try server.client()
            try client.send(requests)
            // Some go at once, and some when answers have come.
            if round % 2 == 0 { _ = try client.receive(exactly: 1) }
            try client.reset()
        }
        try stayer.ask("COUNT\n", "10\n")
        #expect(try peakResidentBytes(of: server.child) - memory < 32 << 20)
        stayer.close()
        try server.stop()
        #expect(server.child.standardOutputText.contains(", 0 were cut off"))
    }

    @Test(arguments: Engine.allCases)
    func `a client that does not read is not read from, costs little memory, and gets all in the end`(
        engine: Engine
    ) throws {
        let server = try Example("shards", engine, ["--loops", "3"])
        let client = try server.client(receiveBuffer: 4_096)
        let value = String(repeating: "v", count: 4_000)
        for key in 0..<10 { try client.ask("SET \(key) \(value)\n", "OK\n") }
        let memory = try peakResidentBytes(of: server.child)
        // 300 bytes of answers for each of these bytes: some GB, if they were made.
        let requests = (0..<1_000).map { "GET \($0 % 10)\n" }.joined()
        let sent = try client.sendUntilFull(Array(requests.utf8), most: 64 << 20)
        let other = try server.client()
        for key in 0..<10 { try other.ask("GET \(key)\n", "VALUE \(value)\n") }
        other.close()
        #expect(try peakResidentBytes(of: server.child) - memory < 16 << 20)
        for key in 0..<min(sent / 6, 5_000) {
            try #require(try client.receiveLine() == "VALUE \(value)", "answer \(key)")
        }
        try client.reset()
        try server.stop()
    }

    /// What a client has been told by COUNT was performed, so those who asked for it are owed an answer.
    @Test(arguments: Engine.allCases)
    func `SIGTERM under load loses no answer to what was done`(engine: Engine) throws {
        for round in 0..<3 {
            let server = try Example("shards", engine, ["--loops", "3"])
            let loads = try (0..<4).map { _ in try server.client() }
            let watcher = try server.client()
            let senders = loads.enumerated().map { number, client in
                onThread {
                    try client.send((0..<20_000).map { "SET \(number)/\($0) x\n" }.joined())
                    try client.halfClose()
                }
            }
            var doneCount = 0
            while doneCount < 1_000 * (round + 1) {
                try watcher.send("COUNT\n")
                doneCount = try #require(Int(try watcher.receiveLine()))
            }
            server.child.signal(SIGTERM)
            var answerCount = 0
            for client in loads {
                let answers = String(decoding: try client.receiveUntilEnd(), as: UTF8.self)
                let count = answers.utf8.count / 3
                #expect(answers == String(repeating: "OK\n", count: count))
                answerCount += count
            }
            #expect(answerCount >= doneCount)
            for sender in senders { try sender.value(timeLimit: Example.patience) }
            try watcher.expectEnd()
            for client in loads + [watcher] { client.close() }
            #expect(try server.child.waitForExit() == .exited(0))
            #expect(server.child.standardErrorText == "")
            // A client may be through before its loop has heard of the drain; then it is not in the report.
            #expect(server.child.standardOutputText.contains(" finished, 0 were cut off"))
        }
    }

    @Test(arguments: Engine.allCases)
    func `a loop that ends takes its keys along, and who asks for them is told`(engine: Engine) throws {
        let server = try Example("shards", engine, ["--loops", "3"])
        // One on each loop, in their order.
        let clients = try (0..<3).map { _ in try server.client() }
        let keys = 0..<300
        try clients[0].send(keys.map { "SET \($0) x\n" }.joined())
        try clients[0].expect(String(repeating: "OK\n", count: keys.count))
        // The loop ends while this goes on.
        let rounds = 30
        let requests = String(repeating: keys.map { "GET \($0)\n" }.joined(), count: rounds)
        let load = clients[1]
        let sender = onThread { try load.send(requests) }
        #expect(try load.receiveLine() == "VALUE x")
        server.child.signal(SIGUSR1)
        for number in 1..<rounds * keys.count {
            let answer = try load.receiveLine()
            try #require(answer == "VALUE x" || answer == Self.ended, "answer \(number)")
        }
        try sender.value()
        #expect(try clients[2].receiveUntilOver().bytes == [])
        try server.child.waitForLine(containing: "Loop 2 has ended")
        let newcomer = try server.client()
        for client in [clients[0], load, newcomer] {
            try client.send(keys.map { "GET \($0)\n" }.joined())
            let answers = try keys.map { _ in try client.receiveLine() }
            let lostCount = answers.count { $0 == Self.ended }
            #expect((1..<keys.count).contains(lostCount))
            #expect(answers.count { $0 == "VALUE x" } == keys.count - lostCount)
            try client.ask("COUNT\n", Self.ended + "\n")
        }
        for client in clients + [newcomer] { client.close() }
        try server.stop()
    }

    @Test(arguments: Engine.allCases, [false, true])
    func `a loop that hangs has few requests waiting for it, and each is answered when it goes on or ends`(
        engine: Engine, ends: Bool
    ) throws {
        let (answerCount, endedCount) = try whileALoopHangs(engine, ends: ends) { client, server in
            let keys = (0..<100).map { number in String(repeating: "k", count: 200) + "\(number)" }
            let requests = keys.map { "GET \($0)\n" }
            let sentCount = try client.sendUntilFull(Array(requests.joined().utf8), most: 64 << 20)
            server.goOn.signal()
            var (answerCount, endedCount, askedCount) = (0, 0, 0)
            while case let next = askedCount + requests[answerCount % 100].utf8.count, next <= sentCount {
                let answer = try client.receiveLine()
                if answer == Self.ended { endedCount += 1 } else { try #require(answer == "NONE") }
                answerCount += 1
                askedCount = next
            }
            return (answerCount, endedCount)
        }
        #expect(answerCount > 1_000)
        #expect(ends == (endedCount > 0))
    }

    @Test(arguments: Engine.allCases)
    func `a client that has gone while its requests were under way is forgotten`(engine: Engine) throws {
        let clientCounts = try whileALoopHangs(engine) { client, server in
            // Read in one go with what is answered at once.
            try client.send("QUIT now\n" + (0..<60).map { "GET \($0)\nCOUNT\n" }.joined())
            try #require(try client.receiveLine().hasPrefix("ERROR"))
            try client.reset()
            while try answer(of: server.listener, { $0.connectionCount }) > 0 { continue }
            server.goOn.signal()
            // Each loop answers this behind the requests, and the second time behind the answers.
            let shards = server.directory.all
            _ = try shards.map { try answer(of: $0) { _ in true } }
            return try shards.map { try answer(of: $0) { $0.clients.count } }
        }
        #expect(clientCounts == [0, 0])
    }

    private struct Server: Sendable {
        let directory: Directory
        let listener: LoopBound<GroupListener>
        /// The loop that hangs goes on.
        let goOn: DispatchSemaphore
    }

    /// The server in this process, since a loop of a program cannot be made to hang. `body` gets a client of the other
    /// loop, and runs on a thread of its own.
    private func whileALoopHangs<Outcome: Sendable>(
        _ engine: Engine, ends: Bool = false,
        _ body: @escaping @Sendable (PlainClient, Server) throws -> Outcome
    ) throws -> Outcome {
        let group = try EventLoop.Group(engine: engine, count: 2)
        let directory = Directory()
        let listener = try directory.listen(on: .ipv4("127.0.0.1", port: 0), group, keyLimit: 1)
        let port = UInt16(try #require(listener.localAddress.port))
        let goOn = DispatchSemaphore(value: 0)
        let server = Server(directory: directory, listener: LoopBound(listener, on: group.loop), goOn: goOn)
        let hanging = group.members[1]
        let peer = onThread {
            defer { server.listener.execute { $0.close() } }
            defer { goOn.signal() }
            let client = try PlainClient(port: port, timeLimit: Example.patience)
            defer { client.close() }
            // The first client is the first loop's.
            try client.ask("COUNT\n", "0\n")
            hanging.execute { loop in
                goOn.wait()
                if ends { loop.stop() }
            }
            return try body(client, server)
        }
        try group.run()
        return try peer.value(timeLimit: Example.patience)
    }

    private static let ended = "ERROR the loop that owns the key has ended"
}

/// Sends all of it without waiting, and compares the answers with what one dictionary would give.
private func playPipeline(_ client: PlainClient, count: Int, name: String) throws {
    var values: [Int: Int] = [:]
    var (requests, answers) = ("", "")
    let choices = pseudoRandomBytes(count: 2 * count, seed: 7)
    for number in 0..<count {
        let key = Int(choices[2 * number])
        switch choices[2 * number + 1] % 4 {
        case 0, 1:
            requests += "GET \(name)/\(key)\n"
            answers += values[key].map { "VALUE \($0)\n" } ?? "NONE\n"
        case 2:
            requests += "SET \(name)/\(key) \(number)\n"
            answers += "OK\n"
            values[key] = number
        default:
            requests += "DEL \(name)/\(key)\n"
            answers += values.removeValue(forKey: key) == nil ? "NONE\n" : "OK\n"
        }
    }
    let sender = onThread { [requests] in try client.send(requests) }
    try client.expect(answers)
    try sender.value(timeLimit: Example.patience)
}
