import ArgumentParser
import CallbackServer
import ExampleSupport

/// The bounds of the server; those of a request are in `Request`.
private enum Limits {
    /// Clients at a time; more wait in the kernel.
    static let clients = 1_000
    /// Bytes of one read. What waits behind a client's unread answers and is not counted is no more than this.
    static let read = 64 * 1024
    /// A client's requests wait while it has not read this many bytes of answers.
    static let answers = 256 * 1024
    /// How long answers may wait for a client that reads nothing.
    static let unread = Duration.seconds(30)
}

@main
struct KeyValue: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keyvalue", abstract: "Keys and values in memory, over the Redis protocol.")

    @OptionGroup var options: ServerOptions

    @Option(
        help: ArgumentHelp(
            "Refuse new values beyond so much memory, and drop clients whose unfinished requests take a quarter of it.",
            valueName: "mib"))
    var memory = 256

    func validate() throws {
        guard (1...1 << 20).contains(memory) else {
            throw ValidationError("--memory \(memory) is not between 1 and \(1 << 20) MiB")
        }
    }

    func run() throws {
        var loopOptions = EventLoop.Options()
        loopOptions.readBufferSize = Limits.read
        let loop = try EventLoop(engine: options.engine, options: loopOptions)
        let store = Store(loop, memory: memory << 20)
        var clients: [Connection: Client] = [:]
        /// The one that keeps the most memory without being answered; it may be the one that has just sent more.
        func shedLargest() { clients.values.max { $0.inputSize < $1.inputSize }?.shed() }
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.highWaterMark = Limits.answers
        listening.connection.timeouts.write = Limits.unread
        listening.connection.keepAlive = .init()
        let listener = try loop.listen(on: options.address, options: listening) { connection in
            let client = Client(connection, store) { shedLargest() }
            clients[connection] = client
            connection.onFrames(limit: Client.longestFrame) { _, reader in client.read(&reader) }
            connection.onDrain = { _ in client.drained() }
            connection.onClose = { connection, _ in
                client.closed()
                clients[connection] = nil
            }
        }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain)) {
            for client in clients.values { client.hangUp() }
        }
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}
