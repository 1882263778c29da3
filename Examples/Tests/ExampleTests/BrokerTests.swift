import CallbackServer
import ExampleTestSupport
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `Broker` {
    @Test(arguments: Engine.allCases)
    func `mosquitto_sub hears what mosquitto_pub says, by filters, at either quality`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        let filters: [(String, heard: [String])] = [
            ("#", ["a/b/c 0", "a/b 1", "a 2", "/x 3", "a//c 5"]), ("a/#", ["a/b/c 0", "a/b 1", "a 2", "a//c 5"]),
            ("+/+", ["a/b 1", "/x 3"]), ("a/+/c", ["a/b/c 0", "a//c 5"]), ("+", ["a 2"]), ("a/b", ["a/b 1"]),
            ("$own/#", ["$own/y 4"]), ("/+", ["/x 3"]), ("b/#", []),
        ]
        let listeners = try filters.map { filter, _ in try listen(broker, ["-t", filter, "-t", "end", "-q", "1"]) }
        for (index, topic) in ["a/b/c", "a/b", "a", "/x", "$own/y", "a//c", "end"].enumerated() {
            try publish(broker, topic, "\(index)", ["-q", "\(index % 2)"])
        }
        for ((_, heard), listener) in zip(filters, listeners) {
            #expect(try messages(of: listener, count: heard.count + 1) == heard + ["end 6"])
        }
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a retained message is told to who comes later, until it is removed`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        try publish(broker, "room/one", "old", ["-r"])
        try publish(broker, "room/one", "cold", ["-r", "-q", "1"])
        try publish(broker, "room/two", "hot", ["-r"])
        try publish(broker, "room/two/x", "not kept")
        try publish(broker, "$own", "hidden", ["-r"])
        for (filter, kept) in [
            ("room/+", ["room/one cold 1", "room/two hot 1"]), ("#", ["room/one cold 1", "room/two hot 1"]),
            ("room/one", ["room/one cold 1"]), ("$own/#", ["$own hidden 1"]), ("room/two/#", ["room/two hot 1"]),
        ] {
            let listener = try listen(broker, ["-t", filter, "-F", "%t %p %r"])
            #expect(try messages(of: listener, count: kept.count).sorted() == kept, "\(filter)")
            // To who listens already it is a message as any other.
            if filter == "room/one" {
                try publish(broker, "room/one", "cold", ["-r"])
                #expect(try messages(of: listener, count: 1) == ["room/one cold 0"])
            }
        }
        try publish(broker, "room/one", "", ["-r", "-n"])
        let listener = try listen(broker, ["-t", "room/#", "-F", "%t %p %r"])
        #expect(try messages(of: listener, count: 1) == ["room/two hot 1"])
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `the last will is heard after SIGKILL, and not after a proper end`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        let listener = try listen(broker, ["-t", "gone/#"])
        let will = ["-t", "x", "--will-topic", "gone/ann", "--will-payload", "killed", "--will-qos", "1"]
        let killed = try listen(broker, will + ["--will-retain"])
        killed.signal(SIGKILL)
        #expect(try messages(of: listener, count: 1) == ["gone/ann killed"])
        let late = try listen(broker, ["-t", "gone/#"])
        #expect(try messages(of: late, count: 1) == ["gone/ann killed"])
        // With SIGTERM mosquitto_sub says DISCONNECT.
        let ended = try listen(broker, will)
        ended.signal(SIGTERM)
        _ = try ended.waitForExit()
        try publish(broker, "gone/bob", "next")
        #expect(try messages(of: listener, count: 1) == ["gone/bob next"])
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `fifty subscribers hear all, whole and in order`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        let count = 100
        let lines = (0..<count).map { "\($0) " + String(repeating: "x", count: $0 * 7) }
        let listeners = try (0..<50).map { index in
            try listen(broker, ["-t", "line", "-q", "\(index % 2)", "-C", "\(count)", "-F", "%p"])
        }
        let input = lines.map { $0 + "\n" }.joined()
        _ = try run("mosquitto_pub", address(broker) + ["-t", "line", "-q", "1", "-l"], input: input)
        for listener in listeners {
            #expect(try messages(of: listener, count: count) == lines)
            #expect(try listener.waitForExit(timeLimit: Example.patience) == .exited(0))
        }
        try broker.stop()
    }

    /// What is published is far beyond what the kernel and the program keep for one client.
    @Test(arguments: Engine.allCases)
    func `a subscriber that stops reading is dropped, and the others lose nothing`(engine: Engine) throws {
        let broker = try Example("broker", engine, ["--patience", "0.5"])
        let count = 400
        let stopped = try listen(broker, ["-t", "line", "-i", "stopped"])
        let listener = try listen(broker, ["-t", "line", "-C", "\(count)", "-F", "%l"])
        let memory = try peakResidentBytes(of: broker.child)
        stopped.signal(SIGSTOP)
        let input = String(repeating: String(repeating: "y", count: 50_000) + "\n", count: count)
        _ = try run("mosquitto_pub", address(broker) + ["-t", "line", "-q", "1", "-l"], input: input)
        #expect(try messages(of: listener, count: count) == Array(repeating: "50000", count: count))
        try broker.child.waitForLine(containing: "\"stopped\": too slow", timeLimit: Example.patience)
        // 20 MB were published.
        #expect(try peakResidentBytes(of: broker.child) - memory < 10_000_000)
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a publisher waits for a subscriber that is slow, and no byte is lost`(engine: Engine) throws {
        let broker = try Example("broker", engine, ["--patience", "60"])
        let slow = try client(broker, "slow", receiveBuffer: 4_096)
        try slow.send([0x82, 6, 0, 1, 0, 1, 0x74, 0])
        try slow.expect([0x90, 3, 0, 1, 0])
        let publisher = try client(broker, "publisher")
        let message = [0x30, 0xE8, 0x07, 0, 1, 0x74] + [UInt8](repeating: 0x7A, count: 997)
        let packets = Array(repeating: message, count: 100).flatMap { $0 }
        let memory = try peakResidentBytes(of: broker.child)
        let sent = try publisher.sendUntilFull(packets, most: 64 << 20)
        #expect(try peakResidentBytes(of: broker.child) - memory < 8 << 20)
        // In the midst of a packet: the rest of it.
        try publisher.send(Array((packets + packets)[(sent % packets.count)...].prefix((1003 - sent % 1003) % 1003)))
        let whole = (sent + 1002) / 1003
        #expect(try slow.receive(exactly: whole * 1003) == Array(repeating: message, count: whole).flatMap { $0 })
        for client in [slow, publisher] { client.close() }
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a client that is silent for one and a half times its keep-alive is ended, and its will told`(
        engine: Engine
    ) throws {
        let broker = try Example("broker", engine)
        let listener = try listen(broker, ["-t", "will"])
        // Flags: a will, and a clean session. Keep-alive: a second.
        let body = [0, 4] + Array("MQTT".utf8) + [4, 6, 0, 1, 0, 0] + [0, 4] + Array("will".utf8) + [0, 1, 0x77]
        let client = try broker.client()
        try client.send([0x10, UInt8(body.count)] + body)
        try client.expect([0x20, 2, 0, 0])
        for _ in 0..<4 {
            #expect(!client.isAnswered(within: .milliseconds(500)))
            try client.send([0xC0, 0])
            try client.expect([0xD0, 0])
        }
        let start = ContinuousClock.now
        #expect(try client.receiveUntilOver().bytes == [])
        #expect(ContinuousClock.now - start >= .milliseconds(1400))
        #expect(try messages(of: listener, count: 1) == ["will w"])
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a second client of the same name takes the first one's place`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        let first = try client(broker, "ann")
        let second = try client(broker, "ann")
        #expect(try first.receiveUntilOver().bytes == [])
        try second.send([0xC0, 0])
        try second.expect([0xD0, 0])
        second.close()
        try broker.stop()
    }

    @Test(arguments: Engine.allCases)
    func `what a client may ask for and does not get is answered as the standard says`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        // MQTT 5, and a session to be kept for somebody without a name.
        for (level, flags, code) in [(5, 2, 1), (4, 0, 2)] as [(UInt8, UInt8, UInt8)] {
            let client = try broker.client()
            try client.send([0x10, 12, 0, 4] + Array("MQTT".utf8) + [level, flags, 0, 0, 0, 0])
            #expect(try client.receiveUntilEnd() == [0x20, 2, 0, code])
            client.close()
        }
        // QoS 2 is granted as 1; from the subscription of higher quality a message comes once.
        let client = try client(broker, "ann")
        try client.send([0x82, 10, 0, 7, 0, 1, 0x74, 2, 0, 1, 0x23, 0, 0xC0, 0])
        try client.expect([0x90, 4, 0, 7, 1, 0, 0xD0, 0])
        try client.send([0x32, 6, 0, 1, 0x74, 0, 9, 0x6D])
        try client.expect([0x32, 6, 0, 1, 0x74, 0, 1, 0x6D, 0x40, 2, 0, 9])
        try client.send([0x40, 2, 0, 1, 0xA2, 5, 0, 8, 0, 1, 0x74])
        try client.expect([0xB0, 2, 0, 8])
        try client.send([0x32, 6, 0, 1, 0x74, 0, 10, 0x6D, 0xE0, 0])
        try client.expect([0x30, 4, 0, 1, 0x74, 0x6D, 0x40, 2, 0, 10])
        try client.expectEnd()
        client.close()
        try broker.stop()
    }

    /// The bytes, whether they come behind CONNECT, and what the broker tells of them.
    private static let malformed: [(bytes: [UInt8], isConnected: Bool, reason: String)] = [
        ([0x82, 6, 0, 1, 0, 1, 0x74, 0], false, "before CONNECT"),
        (
            Array("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser that has lost its way\r\n".utf8), false,
            "packet 71 before CONNECT"
        ),
        ([0x10, 0xFF, 0xFF, 0xFF, 0xFF, 1], false, "varint 127.0.0.1:PORT (more than 4 bytes"),
        ([0x10, 0xFF, 0xFF, 0xFF, 0x7F], false, "a packet of 268435455 bytes"),
        ([0x11, 0], false, "packet 17 before CONNECT"), ([0x10, 0], false, "the packet ends too soon"),
        ([0x10, 8, 0, 6] + Array("MQIsdp".utf8), false, "protocol MQIsdp"),
        ([0x10, 7, 0, 4] + Array("MQTT".utf8) + [4], false, "ends too soon"),
        (connect(flags: 3), false, "connect flags 3"), (connect(flags: 0x1E), false, "connect flags 30"),
        (connect(flags: 0x42), false, "connect flags 66"), (connect(flags: 0x0A), false, "connect flags 10"),
        (connect(flags: 2, behind: [0]), false, "1 bytes behind the end"),
        (connect(flags: 6, behind: [0, 1, 0x23, 0, 0]), false, "topic #"),
        (connect(flags: 2), true, "a second CONNECT"), ([0x36, 5, 0, 1, 0x74, 0, 1], true, "PUBLISH with flags 6"),
        ([0x34, 5, 0, 1, 0x74, 0, 1], true, "PUBLISH with flags 4"),
        ([0x38, 3, 0, 1, 0x74], true, "PUBLISH with flags 8"),
        ([0x30, 3, 0, 1, 0x2B], true, "topic +"), ([0x30, 2, 0, 0], true, "topic "),
        ([0x30, 3, 0, 1, 0], true, "no UTF-8"), ([0x30, 3, 0, 1, 0xFF], true, "no UTF-8"),
        ([0x30, 3, 0, 9, 0x74], true, "9 bytes that are not there"),
        ([0x32, 5, 0, 1, 0x74, 0, 0], true, "packet identifier 0"),
        ([0x32, 3, 0, 1, 0x74], true, "ends too soon"),
        ([0x30, 67, 0, 65] + [UInt8](repeating: 0x2F, count: 65), true, "topic ////"),
        ([0x80, 6, 0, 1, 0, 1, 0x74, 0], true, "packet 128, which"), ([0x82, 2, 0, 1], true, "ends too soon"),
        ([0x82, 6, 0, 1, 0, 1, 0x74, 3], true, "QoS 3"), ([0x82, 5, 0, 1, 0, 1, 0x74], true, "ends too soon"),
        ([0x82, 7, 0, 1, 0, 2, 0x74, 0x23, 0], true, "topic t#"),
        ([0x82, 8, 0, 1, 0, 3, 0x23, 0x2F, 0x74, 0], true, "topic #/t"),
        ([0x82, 6, 0, 0, 0, 1, 0x74, 0], true, "packet identifier 0"), ([0xA2, 2, 0, 1], true, "ends too soon"),
        ([0x40, 2, 0, 1], true, "of packet 1"), ([0x62, 2, 0, 1], true, "packet 98, which"),
        ([0x20, 2, 0, 0], true, "packet 32, which"), ([0, 0], true, "packet 0, which"),
        ([0xF0, 0], true, "packet 240, which"),
        ([0xC0, 1, 0], true, "1 bytes behind the end"), ([0x30, 5, 0, 1], true, "the peer finished 4 bytes into one"),
    ]

    @Test(arguments: Engine.allCases)
    func `what is no packet ends its connection, with a reason, and disturbs nobody`(engine: Engine) throws {
        let broker = try Example("broker", engine)
        let other = try client(broker, "other")
        for (bytes, isConnected, reason) in Self.malformed {
            let client = isConnected ? try client(broker, "") : try broker.client()
            try client.send(bytes)
            if reason.contains("finished") { try client.halfClose() }
            #expect(try client.receiveUntilOver().bytes == [], "\(bytes)")
            let told = try broker.child.readLine(timeLimit: Example.patience)
            let expected = reason.replacing("PORT", with: "\(client.localPort)")
            #expect(told.contains(expected) && told.contains("127.0.0.1:\(client.localPort)"), "\(bytes): \(told)")
            client.close()
            try other.send([0xC0, 0])
            try other.expect([0xD0, 0])
        }
        other.close()
        try broker.stop()
    }

    // MARK: Parts

    private static func connect(flags: UInt8, id: String = "", behind: [UInt8] = []) -> [UInt8] {
        let body = [0, 4] + Array("MQTT".utf8) + [4, flags, 0, 0, 0, UInt8(id.utf8.count)] + Array(id.utf8) + behind
        return [0x10, UInt8(body.count)] + body
    }

    private func client(_ broker: Example, _ id: String, receiveBuffer: Int32? = nil) throws -> PlainClient {
        let client = try broker.client(receiveBuffer: receiveBuffer)
        try client.send(Self.connect(flags: 2, id: id))
        try client.expect([0x20, 2, 0, 0])
        return client
    }

    private func address(_ broker: Example) -> [String] { ["-h", "127.0.0.1", "-p", "\(broker.port)"] }

    private func publish(_ broker: Example, _ topic: String, _ text: String, _ options: [String] = []) throws {
        _ = try run("mosquitto_pub", address(broker) + ["-t", topic] + (text.isEmpty ? [] : ["-m", text]) + options)
    }

    /// A subscriber that the broker has answered. What it hears are the lines that follow, topic and payload.
    private func listen(_ broker: Example, _ options: [String]) throws -> ChildProcess {
        let format = options.contains("-F") ? [] : ["-v"]
        // Line by line: into a pipe it would write what fills a buffer.
        let command = ["-oL", try tool("mosquitto_sub")] + address(broker) + ["-d"] + format + options
        let child = try ChildProcess(try tool("stdbuf"), command)
        try child.waitForLine(containing: "Subscribed (mid:", timeLimit: Example.patience)
        return child
    }

    /// The next `count` messages, without the lines of `-d`.
    private func messages(of listener: ChildProcess, count: Int) throws -> [String] {
        var messages: [String] = []
        while messages.count < count {
            let line = try listener.readLine(timeLimit: Example.patience)
            if !line.hasPrefix("Client ") { messages.append(line) }
        }
        return messages
    }
}

extension PlainClient {
    fileprivate func expect(_ bytes: [UInt8]) throws {
        #expect(try receive(exactly: bytes.count) == bytes)
    }
}
