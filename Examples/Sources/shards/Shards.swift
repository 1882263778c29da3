import ArgumentParser
import CallbackServer
import ExampleSupport
import Synchronization

/// Every bound of the server; `--keys` and `--loops` are two more.
enum Limits {
    /// Clients of all loops together; more wait in the kernel.
    static let clients = 1_000
    /// Messages of one client that are on their way to other loops, and its answers that wait for earlier ones. COUNT
    /// alone sends one to each loop, and may go beyond it by that.
    static let underWay = 64
    /// A paused client is read again when no more than this are left.
    static let fewUnderWay = underWay / 2
    /// Bytes of a key.
    static let key = 250
    /// Bytes of a value.
    static let value = 4_096
    /// Bytes of a line. A key or value that is too long has an answer within it; beyond it the connection closes.
    static let line = 16 * 1_024
    /// How long answers may wait for a client that reads nothing.
    static let unread = Duration.seconds(30)
}

@main
struct Shards: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shards",
        abstract: "Keys and values in memory, spread over several loops: each loop owns the keys of its shard.",
        discussion: """
            A request is a line: GET key, SET key value, DEL key, COUNT or QUIT. \
            SIGUSR1 ends the last loop, to show what becomes of its keys and its clients.
            """)

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("Serve on N loops, each on its own thread; by default one a core.", valueName: "n"))
    var loops = EventLoop.Group.coreCount

    @Option(help: ArgumentHelp("Refuse new keys in a shard that has N.", valueName: "n"))
    var keys = 100_000

    func validate() throws {
        guard (1...1_024).contains(loops) else { throw ValidationError("--loops \(loops) is not between 1 and 1024") }
        guard (1...10_000_000).contains(keys) else {
            throw ValidationError("--keys \(keys) is not between 1 and 10000000")
        }
    }

    func run() throws {
        let group = try EventLoop.Group(engine: options.engine, count: loops)
        let directory = Directory()
        let listener = try directory.listen(on: options.address, group, keyLimit: keys)
        listener.onError = { _, error in printLine("\(error)") }
        group.onLoopEnd = { _, index, _ in printLine("Loop \(index) has ended, and its keys with it") }
        let last = group.members[loops - 1]
        try group.loop.onSignal(.user1) { _ in last.execute { $0.stop() } }.unref()
        try group.drain(listener, within: .seconds(options.drain), farewell: directory.close)
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try group.run()
    }
}

/// Where each shard is.
final class Directory: Sendable {
    private let shards = Mutex<[Int: LoopBound<Shard>]>([:])

    /// Listens on all loops, each with a shard. Every loop has entered its shard before there is a client.
    func listen(on address: SocketAddress, _ group: EventLoop.Group, keyLimit: Int) throws(IOError) -> GroupListener {
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.write = Limits.unread
        listening.connection.keepAlive = .init()
        // A client that has sent everything still gets the answers.
        listening.connection.allowsHalfOpen = true
        return try group.listen(on: address, options: listening, distribution: .evenly) { [self] loop in
            let index = loop.indexInGroup ?? 0
            let shard = Shard(index, self, keyLimit: keyLimit)
            shards.withLock { $0[index] = LoopBound(shard, on: loop) }
            return shard.enter
        }
    }

    /// All shards, in the order of their loops.
    var all: [LoopBound<Shard>] {
        let found = shards.withLock { $0 }
        return found.keys.sorted().compactMap { found[$0] }
    }

    /// Ends the conversations of all loops.
    func close() {
        for shard in all { shard.execute { $0.close() } }
    }
}
