import CallbackServer
import Glibc

/// The yardsticks' program over the public API, with nothing printed for a message: what it costs more than
/// they do is the price of the API.
///
///     echo-callbackserver [--engine NAME] [--mode echo | lines | fan-out] [--read-buffer BYTES] [--list-engines]
///     echo-callbackserver [--engine NAME] --loops N
///
/// On 127.0.0.1, on a free port. SIGTERM ends it with status 0.
@main
struct EchoCallbackServer {
    static func main() throws(IOError) {
        var engine = Engine.libuv
        var mode = Mode.echo
        var options = EventLoop.Options()
        var loops: Int?
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            if argument == "--list-engines" {
                for engine in Engine.allCases { print(engine.rawValue) }
                return
            }
            let value = arguments.popFirst() ?? ""
            if argument == "--engine", let named = Engine(rawValue: value) {
                engine = named
            } else if argument == "--mode", let named = Mode(rawValue: value) {
                mode = named
            } else if argument == "--read-buffer", let size = Int(value) {
                options.readBufferSize = size
            } else if argument == "--loops", let count = Int(value) {
                loops = count
            } else {
                print("usage: echo-callbackserver [--engine NAME] [--mode MODE] [--read-buffer BYTES] [--list-engines]")
                exit(64)
            }
        }
        if let loops {
            try serve(on: EventLoop.Group(engine: engine, count: loops, options: options))
        } else {
            try serve(mode, on: engine, options)
        }
    }

    enum Mode: String {
        case echo
        /// One write for each line of what was received.
        case lines
        /// Everybody gets what one sends.
        case fanOut = "fan-out"
    }

    static func serve(_ mode: Mode, on engine: Engine, _ options: EventLoop.Options) throws(IOError) {
        let loop = try EventLoop(engine: engine, options: options)
        let members = Members()
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            switch mode {
            case .echo: echo(connection)
            case .lines: echoLines(connection)
            case .fanOut: members.add(connection)
            }
        }
        try loop.onSignal(.terminate) { _ in loop.stop() }
        announce(listener.localAddress)
        try loop.run()
    }

    static func serve(on group: EventLoop.Group) throws(IOError) {
        let listener = try group.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in { echo($0) } }
        try group.loop.onSignal(.terminate) { _ in group.stop() }
        announce(listener.localAddress)
        try group.run()
    }

    static func announce(_ address: SocketAddress) {
        print("Listening on port \(address.port ?? 0)")
        // Into a pipe or a file the line would stay in the buffer.
        fflush(nil)
    }

    static func echo(_ connection: Connection) {
        connection.onData = { connection, bytes in
            if connection.write(bytes) == .saturated { connection.pause() }
        }
        connection.onDrain = { connection in connection.resume() }
    }

    static func echoLines(_ connection: Connection) {
        connection.onData = { connection, bytes in
            var start = 0
            while start < bytes.count {
                let end = start + firstLine(bytes.extracting(start...))
                if connection.write(bytes.extracting(start..<end)) == .saturated { connection.pause() }
                start = end
            }
        }
        connection.onDrain = { connection in connection.resume() }
    }
}

/// How long the first line of some bytes is; all of them, if none ends there. With memchr, as in the yardstick: what
/// is compared is the writing.
private func firstLine(_ bytes: Span<UInt8>) -> Int {
    unsafe bytes.withUnsafeBytes { bytes in
        guard let start = bytes.baseAddress else { return 0 }
        guard let newline = unsafe memchr(start, 0x0A, bytes.count) else { return bytes.count }
        return unsafe UnsafeRawPointer(newline) - start + 1
    }
}

/// Who is connected.
final class Members {
    private var connections: [Connection] = []

    /// Whoever lets so much wait is sent away: the others would pay for it with the server's memory.
    private static let mostQueued = 1024 * 1024

    func add(_ connection: Connection) {
        connections.append(connection)
        connection.onData = { [self] _, bytes in
            // Kept once, however many of them are slow.
            let message = unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
            for member in connections {
                member.write(message)
                if member.bufferedByteCount > Self.mostQueued { member.reset() }
            }
        }
        connection.onClose = { [self] connection, _ in connections.removeAll { $0 === connection } }
    }
}
