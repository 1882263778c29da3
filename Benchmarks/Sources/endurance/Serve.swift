import ArgumentParser
import CallbackServer
import Foundation

/// The server under load, started by the command itself: it echoes, counts, and tells its counts when asked.
///
/// Standard input is a socket: a byte there asks for the counts, its end ends the server. SIGTERM drains.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The server that the runs load; started by them.", shouldDisplay: false)

    @Option var engine = Engine.libuv
    /// The limit of descriptors of this process (RLIMIT_NOFILE).
    @Option var descriptors: Int?
    /// The kernel's buffers of each connection, in bytes; nothing for its own choice.
    @Option var kernelBuffers: Int?
    /// So many bytes for each client of two more listeners, one of them on a Unix socket.
    @Option var feed: Int?
    @Option var unixPath: String?
    /// Their idle time-out in seconds, and their write time-out.
    @Option var feedIdle = 3
    @Option var feedWrite = 5
    /// The idle time-out of the echo, in seconds; nothing for none.
    @Option var idle: Int?
    /// `EventLoop.Options.maxQueuedBytes`; nothing for the default.
    @Option var maxQueued: Int?
    /// A fault to show that the runs can fail.
    @Option(name: .customLong("break")) var fault: Fault?

    func run() throws {
        if let descriptors { try setDescriptorLimit(descriptors) }
        var options = EventLoop.Options()
        if let maxQueued { options.maxQueuedBytes = maxQueued }
        let loop = try EventLoop(engine: engine, options: options)
        var echo = Connection.Options()
        echo.sendBufferSize = kernelBuffers
        echo.receiveBufferSize = kernelBuffers
        echo.timeouts.idle = idle.map { .seconds($0) }
        let server = try EchoServer(loop, fault, echo)
        var times = Connection.Timeouts()
        times.write = .seconds(feedWrite)
        times.idle = .seconds(feedIdle)
        let feedPort = try feed.map { count in try server.feed(count, unixPath: unixPath ?? "", times) }
        try server.begin(control: dup(STDIN_FILENO), feedPort: feedPort)
        try loop.run()
    }
}

/// An echo server in which every client and byte is counted.
final class EchoServer {
    private let loop: EventLoop
    private let fault: Fault?
    private let echo: Connection.Options
    private var counts = ServerCounts()
    private var listener: Listener?
    private var feeders: [Listener] = []
    private var isOver = false

    /// How long the clients have to finish after SIGTERM.
    private static let drainLimit: Duration = .seconds(20)
    /// As many as the kernel keeps (net.core.somaxconn), since clients come in thousands.
    private static let backlog = 4_096

    init(_ loop: EventLoop, _ fault: Fault?, _ echo: Connection.Options) throws(IOError) {
        self.loop = loop
        self.echo = echo
        self.fault = fault
    }

    /// What the bytes of `feed` are.
    static let feedSeed: UInt64 = 42

    /// Listens over TCP and on a Unix socket, and gives each client so many bytes, then the end. Gives the port.
    func feed(_ count: Int, unixPath: String, _ times: Connection.Timeouts) throws(IOError) -> Int {
        var options = Listener.Options()
        options.connection.timeouts = times
        let pattern = Pattern(seed: Self.feedSeed)
        var bytes: [UInt8] = []
        // Of an array with as much room again, each queue would keep a copy.
        bytes.reserveCapacity(count)
        while bytes.count < count { bytes += pattern.bytes(at: bytes.count, count: count - bytes.count) }
        let addresses = [try SocketAddress.ipv4("127.0.0.1", port: 0), try .unix(path: unixPath)]
        for address in addresses {
            feeders.append(
                try loop.listen(on: address, options: options) { [unowned self, bytes] connection in
                    serve(connection)
                    connection.write(bytes)
                    connection.end()
                })
        }
        return feeders[0].localAddress.port ?? 0
    }

    /// Listens, and says where on the control socket.
    func begin(control descriptor: Int32, feedPort: Int?) throws(IOError) {
        var options = Listener.Options()
        options.backlog = Self.backlog
        options.connection = echo
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { [unowned self] in
            serve($0)
        }
        listener.onShed = { [unowned self] _, shed in
            counts.shed["\(shed.cause)", default: 0] += fault == .miscountsShed ? shed.count + 1 : shed.count
        }
        listener.onError = { [unowned self] _, _ in counts.acceptErrors += 1 }
        loop.onOverload = { [unowned self] event in counts.overload.append("\(event)") }
        self.listener = listener
        let control = try loop.adopt(connected: descriptor)
        control.onData = { [unowned self] control, _ in tellCounts(control) }
        control.onEnd = { [unowned self] _ in if !isOver { loop.stop() } }
        try loop.onSignal(.terminate) { [unowned self] watcher in
            if fault == .endsAtOnce { return loop.stop() }
            watcher.cancel()
            for feeder in feeders { feeder.close() }
            listener.drain(within: Self.drainLimit) { [unowned self] _ in
                isOver = true
                tellCounts(control)
                control.end()
            }
        }
        if fault == .spins { loop.schedule(after: .zero) { $0.reschedule(after: .zero) }.unref() }
        control.write("\(listener.localAddress.port ?? 0)\(feedPort.map { " \($0)" } ?? "")\n")
    }

    /// The callbacks capture this object as it is, and so cost a connection nothing.
    private func serve(_ connection: Connection) {
        counts.accepted += 1
        counts.open += 1
        connection.onData = { [self] connection, bytes in
            if let fault, fault.strikes(bytes.count) { return fault.echoWrongly(connection, bytes) }
            if connection.write(bytes) == .saturated, fault != .hoards { connection.pause() }
        }
        connection.onDrain = { connection in connection.resume() }
        connection.onClose = { [self] connection, reason in
            counts.open -= 1
            counts.closed[name(of: reason), default: 0] += 1
            counts.bytesIn += connection.bytesRead
            counts.bytesOut += connection.bytesWritten
            fault?.leak(after: counts.closedInAll)
        }
    }

    private func name(of reason: CloseReason) -> String {
        switch reason {
        case .failed(let error): "failed(\(error.name))"
        case .timedOut(let kind): "timedOut(\(kind.rawValue))"
        default: "\(reason)"
        }
    }

    private func tellCounts(_ control: Connection) {
        guard let text = try? JSONEncoder().encode(counts) else { return }
        control.write(Array(text) + [UInt8(ascii: "\n")])
    }
}
