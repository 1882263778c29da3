import ArgumentParser
import CallbackServer
import CallbackTLS
import ExampleSupport
import ExampleTLS

/// Every bound of the program. What a direction may queue is the library's high water mark, 64 KiB, and one read.
private enum Limits {
    /// Clients at a time, each with a connection of its own to the backend; more wait in the kernel.
    static let clients = 1_000
    /// How long the backend may take to answer.
    static let connecting = Duration.seconds(10)
    /// How long a connection may be silent both ways.
    static let idle = Duration.seconds(300)
}

@main
struct TLSProxy: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tls-proxy", abstract: "Speaks TLS with clients, and passes the bytes to a server that does not.",
        discussion: "SIGHUP reads the certificate and its key again; SIGTERM and SIGINT drain.")

    @OptionGroup var options: ServerOptions

    @OptionGroup var files: IdentityFiles

    @Option(help: ArgumentHelp("Where to pass the bytes to: a name or an address, and a port.", valueName: "host:port"))
    var backend: HostAndPort

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        let tls = try files.server(.init(), on: loop)
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.idle = Limits.idle
        let listener = try loop.listen(on: options.address, tls: tls, options: listening) { [unowned loop] client in
            // Not before the handshake: who cannot speak TLS costs the backend nothing. Behind it, the client's
            // close_notify becomes FIN, and the backend's FIN becomes close_notify.
            client.onOpen = { loop.forward($0, to: backend, connecting: Limits.connecting, idle: Limits.idle) }
        }
        listener.onError = { _, error in printLine("\(error)") }
        listener.onHandshakeFailed = { _, failure in printLine("No handshake with \(failure)") }
        try loop.drain(listener, within: .seconds(options.drain))
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}
