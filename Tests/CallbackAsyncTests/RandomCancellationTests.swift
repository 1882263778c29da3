import CallbackAsync
import CallbackServer
import Glibc
import ServerTestSupport
import Synchronization
import TestSupport
import Testing

/// Tasks at every await that are cancelled at moments of a seed's choice, by the loop's thread and by others.
@Suite(.timeLimit(.minutes(20)), .onOwnThread, .heavy)
struct `Tasks that are cancelled at random` {
    @Test(arguments: Engine.allCases)
    func `leave no descriptor, no task and no loop`(engine: Engine) async {
        // The descriptors are the process's.
        await #expect(processExitsWith: .success) { [engine] in
            do { try play(engine) } catch { Issue.record(error) }
        }
    }
}

private func play(_ engine: Engine) throws {
    var counts: [String: Int] = [:]
    // What the first look-up and the first thread leave open is not the library's.
    try Round(engine, seed: 0).play(&counts)
    let before = try openDescriptors().count
    for seed in 1...UInt64(size("CALLBACKSERVER_CANCELLATIONS", orElse: 100)) {
        try Round(engine, seed: seed).play(&counts)
        let after = try openDescriptors()
        if after.count != before { throw Leak.descriptors("seed \(seed): \(after)") }
    }
    // Every await was met, or this has tested less than it says.
    for place in Round.places where counts[place, default: 0] == 0 { throw Leak.neverCancelled(place) }
}

private enum Leak: Error {
    case descriptors(String)
    case loop(UInt64)
    case tasks(UInt64)
    case neverCancelled(String)
    case unexpected(UInt64, String)
}

/// A server and its clients on one loop, all of them tasks.
private final class Round {
    static let places = ["accept", "connect", "resolve", "echo", "send", "read", "closed"]

    static let options = {
        var options = Connection.Options()
        // So that a send has to wait.
        options.sendBufferSize = 8_192
        options.highWaterMark = 8_192
        options.lowWaterMark = 4_096
        // A task whose send meets a reset leaves what the peer had sent unread, and the connection for this time.
        options.timeouts.close = .milliseconds(50)
        return options
    }()

    private let seed: UInt64
    private var random: SplitMix64
    private var loop: EventLoop?
    private var tasks: [Task<Void, Never>] = []
    /// Where tasks were cancelled.
    private var cancelledAt: [String] = []
    private var unexpected: [String] = []

    init(_ engine: Engine, seed: UInt64) throws {
        self.seed = seed
        random = SplitMix64(seed: seed)
        loop = try EventLoop(engine: engine)
    }

    func play(_ places: inout [String: Int]) throws {
        try begin()
        for _ in 0..<12 {
            for _ in 0..<random.next() % 6 { try loop?.run(.noWait) }
            // Some have ended, and some are new.
            let task = tasks[Int(random.next() % UInt64(tasks.count))]
            if random.next() % 2 == 0 {
                task.cancel()
            } else {
                _ = onThread { task.cancel() }
            }
        }
        try end()
        for place in cancelledAt { places[place, default: 0] += 1 }
        if let first = unexpected.first { throw Leak.unexpected(seed, first) }
    }

    private func begin() throws {
        guard let loop else { return }
        var listening = Listener.Options()
        listening.connection = Self.options
        let listener = try loop.listenSomewhere(options: listening)
        tasks.append(
            loop.task { [unowned self] in
                await note("accept") {
                    for try await connection in listener.connections {
                        let task = connection.task { await self.note("echo") { try await echo(connection) } }
                        tasks.append(task)
                    }
                }
            })
        for number in 0..<3 {
            let count = Int(random.next() % 400_000)
            tasks.append(loop.task { [unowned self] in await client(number, listener.localAddress, count) })
        }
        tasks.append(
            loop.task { [unowned self, unowned loop] in
                await note("resolve") {
                    while true { _ = try await loop.resolve(host: "known-round", port: 1) }
                }
            })
    }

    private func client(_ number: Int, _ address: SocketAddress, _ count: Int) async {
        guard let loop else { return }
        var options = EventLoop.ConnectOptions()
        options.connection = Self.options
        var connection: Connection?
        await note("connect") {
            connection =
                try await number == 0
                ? loop.connect(host: "127.0.0.1", port: address.port ?? 0, options: options)
                : loop.connect(to: address, options: options)
        }
        guard let connection else { return }
        tasks.append(
            loop.task { [unowned self] in
                await note("send") {
                    try await connection.send([UInt8](repeating: 1, count: count))
                    connection.end()
                }
            })
        tasks.append(loop.task { [unowned self] in await note("closed") { _ = try await connection.closed() } })
        await note("read") {
            var received = 0
            for try await bytes in connection.bytes { received += bytes.count }
            if received != count { unexpected.append("\(received) bytes of \(count), and an end") }
        }
    }

    /// Cancels who would go on for ever, and runs until nothing is left.
    private func end() throws {
        tasks[0].cancel()
        tasks[4].cancel()
        var isLate = false
        let watch = loop?.schedule(after: .seconds(20)) { _ in isLate = true }
        watch?.unref()
        while loop?.isAlive == true, !isLate { try loop?.run(.once) }
        watch?.cancel()
        if isLate { throw Leak.tasks(seed) }
        weak let gone = loop
        loop = nil
        if gone != nil { throw Leak.loop(seed) }
    }

    private func note(_ place: String, _ body: () async throws -> Void) async {
        let outcome = await told(body)
        switch outcome {
        case "cancelled": cancelledAt.append(place)
        // The other side, or another task of this one, was cancelled.
        case "none", "ECONNRESET", "ECANCELED", "EPIPE", "ECONNREFUSED": break
        default: unexpected.append("\(place): \(outcome)")
        }
    }
}
