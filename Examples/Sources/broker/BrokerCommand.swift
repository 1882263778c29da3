import ArgumentParser
import CallbackServer
import ExampleSupport

/// Every bound of the program.
enum Limits {
    /// Clients at a time; more wait in the kernel.
    static let clients = 10_000
    /// How long a client may be silent before CONNECT.
    static let connecting = Duration.seconds(10)
    /// Bytes of one packet.
    static let packet = 256 * 1024
    /// Levels of a topic: they are walked by recursion.
    static let levels = 64
    /// Subscriptions of one client. The next one is refused in SUBACK.
    static let subscriptions = 1_000
    /// Bytes of all retained messages together, and what each counts besides its topic and its payload.
    static let retained = 8 << 20
    static let costOfRetained = 256
    /// A subscriber with this many queued bytes is full: clients that publish to it wait.
    static let queue = 256 * 1024
    /// A subscriber with more queued bytes is reset. All retained messages have room in it.
    static let longestQueue = 16 << 20
    /// A subscriber that owes this many acknowledgements is full, too. Fewer than there are packet identifiers.
    static let unacknowledged = 10_000
    /// What a client has to send while a packet is not whole, or to take of what is written to it.
    static let rate = Connection.MinimumRate(bytesPerSecond: 100, window: .seconds(15))
}

@main
struct BrokerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "broker", abstract: "An MQTT 3.1.1 broker, without QoS 2 and sessions that outlive a connection.")

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("Drop a subscriber that is full for this long.", valueName: "seconds"))
    var patience = 10.0

    func validate() throws {
        guard (0.1...3600).contains(patience) else {
            throw ValidationError("--patience \(patience) is not between 0.1 and 3600 seconds")
        }
    }

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        let broker = Broker(patience: .seconds(patience))
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.highWaterMark = Limits.queue
        listening.connection.maxQueuedBytes = Limits.longestQueue
        listening.connection.timeouts.read = Limits.connecting
        listening.connection.timeouts.minimumRate = Limits.rate
        // Finds a peer that has vanished, also one that has asked for no keep-alive of MQTT's.
        listening.connection.keepAlive = .init()
        let listener = try loop.listen(on: options.address, options: listening) { connection in
            _ = Session(connection, broker)
        }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain)) {
            for connection in listener.connections { connection.finish(within: .farewell) }
        }
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}
