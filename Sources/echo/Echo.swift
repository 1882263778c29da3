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
            if let count = options.loopCount {
                try serve(on: EventLoop.Group(engine: options.engine, count: count))
            } else {
                try serve(on: EventLoop(engine: options.engine))
            }
        } catch {
            fail(error)
        }
    }

    /// One loop, on this thread.
    private func serve(on loop: EventLoop) throws(IOError) {
        let (options, drain) = (options.listener, Duration.seconds(options.drain))
        let server = EchoServer(isQuiet: self.options.quiet)
        try withAddress(loop) { address throws(IOError) in
            let listener = try loop.listen(on: address, options: options, onConnection: server.serve)
            listener.onShed = { _, shed in server.show("Turned away \(shed.count) clients: \(shed.cause)") }
            listener.onError = { _, error in server.show("Cannot accept: \(error)") }
            try end(on: loop, within: drain) { limit, done in listener.drain(within: limit, done) }
            announce(listener.localAddress)
        }
        try loop.run()
    }

    /// Several loops, each on a thread of its own. What a loop's clients share is made there.
    private func serve(on group: EventLoop.Group) throws(IOError) {
        let (options, drain, isQuiet) = (options.listener, Duration.seconds(options.drain), options.quiet)
        group.onHang(longerThan: .seconds(5)) { hang in Terminal.printError("echo: \(hang)") }
        group.onLoopEnd = { _, index, error in
            Terminal.printError("echo: loop \(index) has ended\(error.map { ": \($0)" } ?? "")")
        }
        let server = EchoServer(isQuiet: isQuiet)
        try withAddress(group.loop) { address throws(IOError) in
            let listener = try group.listen(on: address, options: options) { _ in EchoServer(isQuiet: isQuiet).serve }
            listener.onShed = { _, shed in server.show("Turned away \(shed.count) clients: \(shed.cause)") }
            listener.onError = { _, error in server.show("Cannot accept: \(error)") }
            try end(on: group.loop, within: drain) { limit, done in listener.drain(within: limit, done) }
            announce(listener.localAddress)
        }
        try group.run()
    }

    /// Calls `body` with the address to listen on, at once or when the resolver has answered.
    private func withAddress(
        _ loop: EventLoop, _ body: @escaping (SocketAddress) throws(IOError) -> Void
    ) throws(IOError) {
        if let path = options.unix { return try body(.unix(path: path)) }
        try loop.resolve(host: options.host, port: options.port) { answer in
            do throws(IOError) {
                try body(try answer.get()[0])
            } catch {
                fail(error)
            }
        }
    }

    private func announce(_ address: SocketAddress) {
        Terminal.printLine(address.port.map { "Listening on port \($0)" } ?? "Listening on \(address)")
    }

    /// The first signal lets the clients finish, for a while; the second ends the program at once. To be called before
    /// the program says that it is there: whoever reads that may send a signal at once.
    private func end(
        on loop: EventLoop, within limit: Duration,
        _ drain: @escaping (Duration, @escaping (DrainReport) -> Void) -> Void
    ) throws(IOError) {
        var isDraining = false
        for signal in [EventLoop.Signal.interrupt, .terminate] {
            let watcher = try loop.onSignal(signal) { _ in
                guard !isDraining else {
                    // To exit alone would send FIN, and a client would take a part of its answer for the whole.
                    return drain(.zero) { _ in Terminal.exit(128 + signal.rawValue) }
                }
                isDraining = true
                // When the last client has gone there is nothing left to run for.
                drain(limit) { _ in }
            }
            watcher.unref()
        }
    }
}

/// One line on standard error, and the end.
private func fail(_ error: IOError) -> Never {
    Terminal.printError("echo: \(error)")
    Terminal.exit(1)
}

/// What becomes of a client.
///
/// A class, so that a callback which captures nothing else needs no memory of its own for each client.
final class EchoServer {
    private let isQuiet: Bool

    init(isQuiet: Bool) {
        self.isQuiet = isQuiet
    }

    /// One client: what it sends goes back; while it does not read, neither do we.
    func serve(_ connection: Connection) {
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

    /// What `--quiet` leaves out. The text is made only if it is shown.
    func show(_ text: @autoclosure () -> String) {
        if !isQuiet { Terminal.printLine(text()) }
    }
}
