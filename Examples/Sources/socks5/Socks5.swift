import ArgumentParser
import CallbackServer
import ExampleSupport

/// Every bound of the program. What a direction may queue is the library's high water mark, 64 KiB, and one read.
enum Limits {
    /// Clients at a time, each with a connection of its own to where it wants; more wait in the kernel.
    static let clients = 1_000
    /// How long a client may take to say where it wants to go.
    static let asking = Duration.seconds(10)
    /// How long it may take to get there.
    static let connecting = Duration.seconds(10)
    /// How long a connection may be silent both ways.
    static let idle = Duration.seconds(300)
    /// Bytes of one message: version and length, and a user name and a password of 255 bytes each.
    static let message = 513
}

@main
struct Socks5: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "socks5", abstract: "A SOCKS proxy (RFC 1928): connects clients to where they want to go.")

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("Let in only who says this name and password (RFC 1929).", valueName: "name:password"))
    var user: User?

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.idle = Limits.idle
        let listener = try loop.listen(on: options.address, options: listening) { connection in
            Client(connection, user).greet()
        }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain))
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}

/// A name and a password, as in `ann:secret`: 1 to 255 bytes each.
struct User: ExpressibleByArgument {
    let name: [UInt8]
    let password: [UInt8]

    init?(argument: String) {
        let parts = argument.utf8.split(separator: UInt8(ascii: ":"), maxSplits: 1)
        guard parts.count == 2, parts.allSatisfy({ $0.count < 256 }) else { return nil }
        (name, password) = (Array(parts[0]), Array(parts[1]))
    }
}
