import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

/// SIGTERM in the middle of everything. `CALLBACKSERVER_DRAIN_ROUNDS=50` is the full size, 200 drains, and tells
/// figures.
@Suite(.serialized, .timeLimit(.minutes(20)), .onOwnThread)
struct `SIGTERM under load` {
    @Test(arguments: Engine.allCases)
    func `SIGTERM at a random moment costs no request, and the port is free at once`(engine: Engine) throws {
        let rounds = size("CALLBACKSERVER_DRAIN_ROUNDS", orElse: 5)
        var (requests, slowest) = (0, Duration.zero)
        for round in 0..<rounds {
            let load = try Load(engine, seed: UInt64(round + 1), hasStayer: round % 5 == 4)
            slowest = max(slowest, try load.play())
            requests += load.requestCount
            try bindAgain(engine, load.port)
        }
        guard rounds > 5 else { return }
        print("drains, \(engine): \(rounds) of \(rounds), \(requests) requests, slowest exit after \(slowest)")
    }

    private func bindAgain(_ engine: Engine, _ port: UInt16) throws {
        let loop = try EventLoop(engine: engine)
        let address = try SocketAddress.ipv4("0.0.0.0", port: Int(port))
        do throws(IOError) {
            let listener = try loop.listen(on: address) { _ in }
            #expect(listener.localAddress.port == Int(port))
        } catch {
            // The server and its clients are gone; whose socket lives there was given the port since.
            let isTaken = try isAlive(port)
            #expect(error.errno == EADDRINUSE && isTaken, "\(error)")
        }
    }

    /// Whether a TCP socket of this port is open, opening or listening, by the states of /proc/net/tcp (proc(5)).
    private func isAlive(_ port: UInt16) throws -> Bool {
        let digits = String(port, radix: 16, uppercase: true)
        let number = ":" + String(repeating: "0", count: 4 - digits.count) + digits
        return try contents(ofFile: "/proc/net/tcp").split(separator: "\n").contains { line in
            let fields = line.split(separator: " ")
            return fields.count > 3 && fields[1].hasSuffix(number) && ["01", "02", "0A"].contains(fields[3])
        }
    }
}

/// One server, its clients, and the moment at which it is told to end.
private final class Load: Sendable {
    /// How many clients send one request after another, and how many come, ask once and go.
    private static let (regulars, newcomers) = (4, 2)
    /// Far more than the clients need to finish.
    private static let longDrain = 30
    /// For the rounds in which a client stays until it is put out.
    private static let shortDrain = 2

    /// Where the client that reaches the moment is in its request.
    private enum Stage: UInt64, CaseIterable { case before, halfSent, sent, answered }

    private let echo: EchoProcess
    private let hasStayer: Bool
    private let seed: UInt64
    private let moment: Int
    private let stage: Stage
    private let begun = Atomic(0)
    private let isEnding = Atomic(false)
    private let signalledAt = Mutex<ContinuousClock.Instant?>(nil)
    /// The ports of newcomers that got no answer.
    private let unanswered = Mutex<[UInt16]>([])

    init(_ engine: Engine, seed: UInt64, hasStayer: Bool) throws {
        echo = try EchoProcess(engine, ["--drain", "\(hasStayer ? Self.shortDrain : Self.longDrain)"])
        self.hasStayer = hasStayer
        self.seed = seed
        let choices = pseudoRandomBytes(count: 3, seed: seed)
        moment = 1 + Int(choices[0]) + Int(choices[1])
        stage = Stage.allCases[Int(choices[2]) % Stage.allCases.count]
    }

    var port: UInt16 { echo.port }
    var requestCount: Int { begun.load(ordering: .acquiring) }

    /// Gives the time from the signal to the exit.
    func play() throws -> Duration {
        var threads: [RunningThread<Void>] = []
        if hasStayer {
            let client = try acceptedClient()
            threads.append(onThread { try client.expectReset() })
        }
        let regulars = try (0..<Self.regulars).map { _ in try acceptedClient() }
        threads += regulars.enumerated().map { number, client in onThread { try self.playRegular(number, client) } }
        threads += (0..<Self.newcomers).map { number in onThread { try self.playNewcomers(Self.regulars + number) } }
        for thread in threads { try thread.value(timeLimit: .seconds(60)) }
        // Twenty seconds, where the drain may take thirty: it ended since all was done.
        #expect(try echo.child.waitForExit(timeLimit: .seconds(20)) == .exited(0), "seed \(seed)")
        let time = ContinuousClock.now - (try #require(signalledAt.withLock { $0 }))
        #expect(echo.child.standardErrorText == "", "seed \(seed)")
        let log = echo.child.standardOutputText
        for port in unanswered.withLock({ $0 }) {
            // The kernel turned it away, with the listener's backlog; the server never had it.
            #expect(!log.contains("port : \(port)\n"), "seed \(seed): accepted, and not answered")
        }
        return time
    }

    /// A client whose connection no longer waits to be accepted: the server owes it its answers.
    private func acceptedClient() throws -> PlainClient {
        let client = try echo.client()
        try client.echoExactly(1_000)
        return client
    }

    /// One request after another on one connection. Told that the server ends, it finishes too.
    private func playRegular(_ number: Int, _ client: PlainClient) throws {
        var count = 0
        while !isEnding.load(ordering: .acquiring) {
            count += 1
            let bytes = request(number, count)
            try ask(client, bytes)
            guard try client.receive(exactly: bytes.count) == bytes else {
                throw failure("other bytes came back", "request \(count) of client \(number)")
            }
            if stage == .answered, begun.load(ordering: .acquiring) >= moment { terminate() }
        }
        try client.halfClose()
        try client.expectEnd()
    }

    /// New connections, one after another, until the server takes no more. What comes back is all or nothing.
    private func playNewcomers(_ number: Int) throws {
        var count = 0
        while !isEnding.load(ordering: .acquiring) {
            count += 1
            let client: PlainClient
            do {
                client = try echo.client()
            } catch let error as PeerError where error.errno == ECONNREFUSED && isEnding.load(ordering: .acquiring) {
                return
            }
            let port = client.localPort
            let bytes = Array(request(number, count).prefix(1_000))
            var answer: [UInt8] = []
            do {
                try ask(client, bytes)
                try client.halfClose()
                while case let piece = try client.receiveSome(), !piece.isEmpty { answer += piece }
            } catch let error as PeerError where [ECONNRESET, EPIPE, ENOTCONN].contains(error.errno) {
                guard isEnding.load(ordering: .acquiring) else { throw error }
            }
            if answer.isEmpty {
                unanswered.withLock { $0.append(port) }
            } else if answer != bytes {
                throw failure("\(answer.count) bytes came back", "\(bytes.count) bytes of a newcomer")
            }
        }
    }

    /// Sends a request; the one that is the moment's sends the signal on its way.
    private func ask(_ client: PlainClient, _ bytes: [UInt8]) throws {
        let isMoment = begun.add(1, ordering: .acquiringAndReleasing).newValue == moment
        guard isMoment else { return try client.send(bytes) }
        if stage == .before { terminate() }
        try client.send(Array(bytes[..<(bytes.count / 2)]))
        if stage == .halfSent { terminate() }
        try client.send(Array(bytes[(bytes.count / 2)...]))
        if stage == .sent { terminate() }
    }

    private func terminate() {
        guard !isEnding.exchange(true, ordering: .acquiringAndReleasing) else { return }
        signalledAt.withLock { $0 = .now }
        echo.child.signal(SIGTERM)
    }

    /// From 1 to 64 KiB, most of them small.
    private func request(_ client: Int, _ count: Int) -> [UInt8] {
        let choices = pseudoRandomBytes(count: 3, seed: seed << 32 | UInt64(client) << 24 | UInt64(count))
        let most = choices[0] % 4 == 0 ? 65_536 : 256
        let length = 1 + (Int(choices[1]) << 8 | Int(choices[2])) % most
        return pseudoRandomBytes(count: length, seed: seed + UInt64(client * 1_000_000 + count))
    }

    private func failure(_ what: String, _ waitedFor: String) -> PeerError {
        PeerError(call: "echo", cause: .unexpected(what), waitedFor: "\(waitedFor), seed \(seed)")
    }
}
