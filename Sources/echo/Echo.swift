import ArgumentParser
import CallbackServer

/// The chapter's program: every byte that a client sends is sent back.
@main
struct Echo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo", abstract: "An echo server: sends back every byte that a client sends.")

    @OptionGroup var options: EchoOptions

    func run() throws {
        do throws(IOError) {
            let loop = try EventLoop(engine: options.engine)
            if let path = options.unix {
                try listen(on: .unix(path: path), loop)
            } else {
                try loop.resolve(host: options.host, port: options.port) { answer in
                    do throws(IOError) {
                        try listen(on: try answer.get()[0], loop)
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

    private func listen(on address: SocketAddress, _ loop: EventLoop) throws(IOError) {
        let listener = try loop.listen(on: address, options: options.listener, onConnection: serve)
        listener.onShed = { _, shed in show("Turned away \(shed.count) clients: \(shed.cause)") }
        listener.onError = { _, error in show("Cannot accept: \(error)") }
        if let port = listener.localAddress.port {
            Terminal.printLine("Listening on port \(port)")
        } else {
            Terminal.printLine("Listening on \(listener.localAddress)")
        }
        try drain(listener, on: [.interrupt, .terminate], loop)
    }

    /// One client: what it sends goes back; while it does not read, neither do we.
    private func serve(_ connection: Connection) {
        let peer = "ip \(connection.remoteAddress.host), port \(connection.remoteAddress.port ?? 0)"
        show(
            "New connection, socket fd is \(connection.descriptor), "
                + "ip is : \(connection.remoteAddress.host), port : \(connection.remoteAddress.port ?? 0)")
        connection.onData = { connection, bytes in
            show("Received: \(Terminal.printable(bytes))")
            if connection.write(bytes) == .saturated { connection.pause() }
        }
        connection.onDrain = { connection in connection.resume() }
        connection.onClose = { _, _ in show("Host disconnected, \(peer)") }
    }

    /// The first signal lets the clients finish, for a while; the second ends the program at once.
    private func drain(
        _ listener: Listener, on signals: [EventLoop.Signal], _ loop: EventLoop
    ) throws(IOError) {
        var isDraining = false
        for signal in signals {
            try loop.onSignal(signal) { watcher in
                guard !isDraining else { Terminal.exit(128 + watcher.signal.rawValue) }
                isDraining = true
                listener.drain(within: .seconds(options.drain)) { _ in loop.stop() }
            }
        }
    }

    /// What `--quiet` leaves out. The text is made only if it is shown.
    private func show(_ text: @autoclosure () -> String) {
        if !options.quiet { Terminal.printLine(text()) }
    }

    private func fail(_ error: IOError) -> Never {
        Terminal.printError("echo: \(error)")
        Terminal.exit(1)
    }
}
