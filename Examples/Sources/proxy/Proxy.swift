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
            forward(client, on: loop)
        }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain))
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }

    /// A connection of the client's own to the server, and a pipe each way.
    ///
    /// What the client sends before the server has answered waits, and so does the client when it is too much. How one
    /// end finishes, or breaks, is handed on to the other.
    private func forward(_ client: Connection, on loop: EventLoop) {
        var connecting = EventLoop.ConnectOptions()
        connecting.connection.timeouts.idle = Limits.idle
        connecting.connection.timeouts.connect = Limits.connecting
        do throws(IOError) {
            let server = try loop.connect(host: to.host, port: to.port, options: connecting)
            client.pipe(to: server)
            server.pipe(to: client)
            server.onClose = { _, reason in
                if case .failed(let error) = reason { printLine("\(error)") }
                if case .timedOut(let kind) = reason { printLine("\(to.host) port \(to.port): \(kind) time-out") }
            }
        } catch {
            printLine("\(error)")
            client.reset()
        }
    }
}
