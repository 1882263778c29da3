import ArgumentParser
import CallbackServer
import ExampleSupport

/// Every bound of the program. What a direction may queue is the library's high water mark, 64 KiB, and one read.
private enum Limits {
    /// Clients at a time, each with a connection of its own to the server; more wait in the kernel.
    static let clients = 1_000
    /// How long the server may take to answer.
    static let connecting = Duration.seconds(10)
    /// How long a connection may be silent both ways.
    static let idle = Duration.seconds(300)
}

@main
struct Proxy: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy", abstract: "Forwards TCP connections to another server, as fast as both ends go.")

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("Where to forward to: a name or an address, and a port.", valueName: "host:port"))
    var to: HostAndPort

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.idle = Limits.idle
        let listener = try loop.listen(on: options.address, options: listening) { [unowned loop] client in
            loop.forward(client, to: to, connecting: Limits.connecting, idle: Limits.idle)
        }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain))
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}
