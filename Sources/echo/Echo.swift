import ArgumentParser
import CallbackServer

/// The chapter's program: every byte that a client sends is sent back.
@main
struct Echo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo", abstract: "An echo server: sends back every byte that a client sends.")

    @OptionGroup var options: EchoOptions

    func run() throws {
        let server = EchoServer(isQuiet: options.quiet, drain: .seconds(options.drain))
        do throws(IOError) {
            let loop = try EventLoop(engine: options.engine)
            if let path = options.unix {
                try server.listen(on: .unix(path: path), options.listener, loop)
            } else {
                let (listener, host, port) = (options.listener, options.host, options.port)
                try loop.resolve(host: host, port: port) { answer in
                    do throws(IOError) {
                        try server.listen(on: try answer.get()[0], listener, loop)
                    } catch {
                        fail(error)
                    }
                }
            }
            try loop.run()
        } catch {
            fail(error)
        }
    }
}

/// One line on standard error, and the end.
private func fail(_ error: IOError) -> Never {
    Terminal.printError("echo: \(error)")
    Terminal.exit(1)
}

/// The server itself: a listener, its clients, and the way it ends.
///
/// A class, so that a callback which captures nothing else needs no memory of its own for each client.
final class EchoServer {
    private let isQuiet: Bool
    private let drain: Duration

    init(isQuiet: Bool, drain: Duration) {
        self.isQuiet = isQuiet
        self.drain = drain
    }

    func listen(on address: SocketAddress, _ options: Listener.Options, _ loop: EventLoop) throws(IOError) {
        let listener = try loop.listen(on: address, options: options, onConnection: serve)
        listener.onShed = { [self] _, shed in show("Turned away \(shed.count) clients: \(shed.cause)") }
        listener.onError = { [self] _, error in show("Cannot accept: \(error)") }
        // Before the line that says the server is there: whoever reads it may send a signal at once.
        try end(listener, on: [.interrupt, .terminate], loop)
        if let port = listener.localAddress.port {
            Terminal.printLine("Listening on port \(port)")
        } else {
            Terminal.printLine("Listening on \(listener.localAddress)")
        }
    }

    /// One client: what it sends goes back; while it does not read, neither do we.
    private func serve(_ connection: Connection) {
        let (host, port) = peer(of: connection)
        show("New connection, socket fd is \(connection.descriptor), ip is : \(host), port : \(port)")
        if isQuiet {
            // A callback of its own: a look at `isQuiet` costs each message 15 instructions.
            connection.onData = { connection, bytes in
                if connection.write(bytes) == .saturated { connection.pause() }
            }
        } else {
            connection.onData = { connection, bytes in
                Terminal.printLine("Received: \(Terminal.printable(bytes))")
                if connection.write(bytes) == .saturated { connection.pause() }
            }
        }
        connection.onDrain = { connection in connection.resume() }
        connection.onClose = { [self] connection, _ in
            let (host, port) = peer(of: connection)
            show("Host disconnected, ip \(host), port \(port)")
        }
    }

    /// A Unix socket's client has no address of its own.
    private func peer(of connection: Connection) -> (host: String, port: Int) {
        let address = connection.remoteAddress
        return address.port.map { (address.host, $0) } ?? ("unix", 0)
    }

    /// The first signal lets the clients finish, for a while; the second ends the program at once.
    private func end(_ listener: Listener, on signals: [EventLoop.Signal], _ loop: EventLoop) throws(IOError) {
        var isDraining = false
        for signal in signals {
            let watcher = try loop.onSignal(signal) { [self] _ in
                guard !isDraining else {
                    // To exit alone would send FIN, and a client would take a part of its answer for the whole.
                    return listener.drain(within: .zero) { _ in Terminal.exit(128 + signal.rawValue) }
                }
                isDraining = true
                // When the last client has gone there is nothing left to run for.
                listener.drain(within: drain) { _ in }
            }
            watcher.unref()
        }
    }

    /// What `--quiet` leaves out. The text is made only if it is shown.
    private func show(_ text: @autoclosure () -> String) {
        if !isQuiet { Terminal.printLine(text()) }
    }
}
