import ArgumentParser
import CallbackServer
import ExampleSupport
import Foundation

/// Every bound of the program. What may be queued is the library's high water mark, 64 KiB, and one read.
private enum Limits {
    /// Clients at a time; more wait in the kernel.
    static let clients = 1_000
    /// How long a connection may be silent.
    static let idle = Duration.seconds(60)
    /// How often the client sends its message, at most.
    static let messages = 1_000_000_000
    /// This user's processes only may connect.
    static let mode: UInt32 = 0o600
}

@main
struct UnixEcho: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unix-echo", abstract: "An echo server on a Unix socket, and a client for it.",
        subcommands: [Serve.self, Send.self])
}

/// What both sides are told.
struct Place: ParsableArguments {
    @Argument(help: "The socket's path, or @ and a name without a file.")
    var path: String

    @Option(help: "What waits for events.")
    var engine = Engine.libuv

    func validate() throws {
        try requireAddress { _ = try address }
    }

    var address: SocketAddress {
        get throws { try path.hasPrefix("@") ? .unix(abstract: String(path.dropFirst())) : .unix(path: path) }
    }
}

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Sends back every byte that a client sends.")

    @OptionGroup var place: Place

    @Option(help: ArgumentHelp("After SIGINT or SIGTERM, let clients finish for so long.", valueName: "seconds"))
    var drain = 5.0

    func validate() throws {
        guard (0...86_400).contains(drain) else {
            throw ValidationError("--drain \(drain) is not between 0 and 86400 seconds")
        }
    }

    func run() throws {
        let loop = try EventLoop(engine: place.engine)
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.unixMode = Limits.mode
        listening.connection.timeouts.idle = Limits.idle
        let listener = try loop.listen(on: place.address, options: listening) { connection in
            connection.onData = { connection, bytes in
                if connection.write(bytes) == .saturated { connection.pause() }
            }
            connection.onDrain = { connection in connection.resume() }
        }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(drain))
        printLine("Listening on \(listener.localAddress)")
        try loop.run()
    }
}

struct Send: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Sends lines, and prints what comes back.")

    @OptionGroup var place: Place

    @Argument(help: "The line to send.")
    var message: String

    @Option(help: ArgumentHelp("Send it so often.", valueName: "n"))
    var times = 1

    func validate() throws {
        guard (1...Limits.messages).contains(times) else {
            throw ValidationError("--times \(times) is not between 1 and \(Limits.messages)")
        }
    }

    func run() throws {
        let loop = try EventLoop(engine: place.engine)
        var connecting = EventLoop.ConnectOptions()
        connecting.connection.timeouts.idle = Limits.idle
        let connection = try loop.connect(to: place.address, options: connecting)
        var missing = times
        // As fast as the server takes it: until the queue is full, and on when it has drained.
        func send(_ connection: Connection) {
            while missing > 0 {
                missing -= 1
                if connection.write("\(message)\n") != .flowing { return }
            }
            // The server has it all, and answers with its own end when it has sent it all back.
            connection.end()
        }
        connection.onOpen = send
        connection.onDrain = send
        connection.onData = { connection, bytes in
            do {
                try FileHandle.standardOutput.write(contentsOf: [UInt8](copying: bytes))
            } catch {
                connection.reset()
            }
        }
        var ending = CloseReason.localClose
        connection.onClose = { _, reason in ending = reason }
        try loop.run()
        if case .failed(let error) = ending { throw error }
        let (sent, received) = (connection.bytesWritten, connection.bytesRead)
        guard ending == .localClose, missing == 0, sent == received else {
            throw Failure(description: "\(place.path): \(ending); \(received) of \(sent) bytes came back")
        }
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }
}
