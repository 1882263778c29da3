import CallbackServer
import Glibc
import TestSupport
import Testing

/// How `echo` bears what a server on the network has to bear: many clients, large ones, slow ones, rude ones.
///
/// One after another, so that the figures of one server are not another one's noise.
@Suite(.serialized, .timeLimit(.minutes(20)), .onOwnThread)
struct `What echo bears` {
    @Test(arguments: Engine.allCases)
    func `2,000 connections one after another`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let count = size("CALLBACKSERVER_CONNECTIONS", orElse: 2_000)
        // Over sixteen addresses of this host: a closed connection keeps its port from its address for a minute.
        for index in 0..<count {
            let client = try PlainClient(port: echo.port, host: "127.0.0.\(1 + index % 16)")
            let bytes = Array("client \(index)".utf8)
            try client.send(bytes)
            guard try client.receive(exactly: bytes.count) == bytes else {
                Issue.record("client \(index) got other bytes")
                return
            }
            client.close()
        }
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `2,000 connections at once`(engine: Engine) throws {
        // select(2) has room for descriptors below 1,024; the engine turns clients beyond away, by name.
        let count = engine == .select ? 900 : 2_000
        try raiseDescriptorLimit(to: 8_192)
        let echo = try EchoProcess(engine, ["--quiet", "--backlog", "4096"])
        let clients = try (0..<count).map { _ in try echo.client() }
        for round in 0..<3 {
            for (index, client) in clients.enumerated() { try client.send(message(index, round)) }
            for (index, client) in clients.enumerated() {
                let expected = message(index, round)
                guard try client.receive(exactly: expected.count) == expected else {
                    Issue.record("client \(index) got other bytes")
                    return
                }
            }
        }
        for client in clients { client.close() }
        try echo.stop()
    }

    private func message(_ client: Int, _ round: Int) -> [UInt8] {
        pseudoRandomBytes(count: 64, seed: UInt64(client * 10 + round))
    }

    @Test(arguments: Engine.allCases)
    func `a message of 64 MiB`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        try client.echoExactly(64 << 20, chunk: 1 << 20, seed: 64)
        client.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `one byte at a time`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        for byte in pseudoRandomBytes(count: 2_000, seed: 2) {
            try client.send([byte])
            #expect(try client.receive(exactly: 1) == [byte])
        }
        client.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a peer that sends 256 MiB and reads nothing, or all of it at last`(engine: Engine) throws {
        let echo = try EchoProcess(engine, ["--quiet"])
        let client = try echo.client()
        // What every connection costs once is there before.
        try client.echoExactly(1 << 20)
        let before = try residentBytes(of: echo.child.pid)
        let sender = Sender(client)
        try sender.sendUntilStuck(atMost: 256 << 20)
        let grown = try residentBytes(of: echo.child.pid) - before
        #expect(grown < 16 << 20, "the server has grown by \(grown) bytes, \(sender.count) sent")
        // Far less than it would send: the server has stopped reading.
        #expect(sender.count < 128 << 20)
        try sender.receiveAllBack()
        client.close()
        let other = try echo.client()
        try other.echoExactly(1_000)
        other.close()
        try echo.stop()
    }

    @Test(arguments: Engine.allCases)
    func `200 clients at a limit of 64 descriptors`(engine: Engine) throws {
        let echo = try EchoProcess(engine, descriptorLimit: 64)
        var quickest = Duration.seconds(60)
        for _ in 0..<3 {
            let crowd = try Crowd(echo, count: 200)
            // What the tests are run by may leave it descriptors of its own, so the number served is not exact; but
            // the clients' count and the server's must be the same.
            #expect(crowd.served.count >= 20 && crowd.served.count < 64, "\(crowd.served.count) served")
            try crowd.expectTold(crowd.shedCount)
            let start = try cpuSeconds(of: echo.child.pid)
            observe(for: .milliseconds(400))
            // 5 % of the time, and a clock tick, the unit of the figure.
            #expect(try cpuSeconds(of: echo.child.pid) - start <= 0.02 + 0.01)
            quickest = min(quickest, try crowd.replaceOne())
            try crowd.leave()
        }
        // The best of three: a busy machine may delay one or the other.
        #expect(quickest < .milliseconds(100))
        try echo.stop()
    }
}

/// A client that sends and does not read, until it is stuck.
private final class Sender {
    private let client: PlainClient
    private let piece = pseudoRandomBytes(count: 1_048_573, seed: 256)
    private(set) var count = 0

    init(_ client: PlainClient) { self.client = client }

    /// Sends until half a second has passed in which the kernel took nothing.
    func sendUntilStuck(atMost limit: Int) throws {
        while count < limit {
            let start = count % piece.count
            count += try client.sendSome(Array(piece[start..<min(piece.count, start + limit - count)]))
            var entry = pollfd(fd: client.descriptor, events: Int16(POLLOUT), revents: 0)
            if poll(&entry, 1, 500) == 0 { return }
        }
    }

    func receiveAllBack() throws {
        var received = 0
        while received < count {
            let start = received % piece.count
            let size = min(piece.count - start, count - received)
            guard try client.receive(exactly: size) == Array(piece[start..<start + size]) else {
                Issue.record("other bytes came back between \(received) and \(received + size)")
                return
            }
            received += size
        }
    }
}

/// More clients than a server has descriptors for.
private final class Crowd {
    private let echo: EchoProcess
    private(set) var served: [PlainClient] = []
    private(set) var shedCount = 0

    init(_ echo: EchoProcess, count: Int) throws {
        self.echo = echo
        let clients = try (0..<count).map { _ in try echo.client() }
        for client in clients {
            if try isServed(client) { served.append(client) } else { shedCount += 1 }
        }
    }

    /// Whether an answer comes, rather than the end.
    private func isServed(_ client: PlainClient) throws -> Bool {
        do {
            try client.send("x")
            return try client.receiveSome() == Array("x".utf8)
        } catch let error as PeerError where error.errno == ECONNRESET || error.errno == EPIPE {
            return false
        }
    }

    /// Reads what the server tells until it has told of `count` clients turned away; more are a failure.
    func expectTold(_ count: Int) throws {
        var told = 0
        while told < count {
            let line = try echo.child.waitForLine(containing: "Turned away ")
            told += try #require(Int(line.split(separator: " ")[2]), "\(line)")
            #expect(line.hasSuffix("descriptorLimit"), "\(line)")
        }
        #expect(told == count)
    }

    /// Closes one client; gives the time from the moment that the server knows until a new one is served.
    func replaceOne() throws -> Duration {
        let leaving = served.removeLast()
        let port = leaving.localPort
        leaving.close()
        try echo.child.waitForLine(containing: "Host disconnected, ip 127.0.0.1, port \(port)")
        let start = monotonicTime()
        var turnedAway = 0
        while true {
            let client = try echo.client()
            if try isServed(client) {
                served.append(client)
                break
            }
            turnedAway += 1
        }
        let time = monotonicTime() - start
        try expectTold(turnedAway)
        return time
    }

    /// Closes all, and waits until the server knows.
    func leave() throws {
        for client in served {
            let port = client.localPort
            client.close()
            try echo.child.waitForLine(containing: "Host disconnected, ip 127.0.0.1, port \(port)")
        }
    }
}

/// Raises the limit of descriptors of this process and of the children to come. It stays: lowering it again could
/// take descriptors from a test that runs beside this one.
func raiseDescriptorLimit(to count: Int) throws {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var limit = rlimit()
    try #require(getrlimit(resource, &limit) == 0)
    guard limit.rlim_cur < rlim_t(count) else { return }
    limit.rlim_cur = min(rlim_t(count), limit.rlim_max)
    try #require(setrlimit(resource, &limit) == 0 && limit.rlim_cur == rlim_t(count), "\(limit.rlim_max) at most")
}
