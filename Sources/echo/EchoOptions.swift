public import ArgumentParser
public import CallbackServer

/// The command line of `echo`.
struct EchoOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The address or host name to listen on.", valueName: "addr"))
    var host = "0.0.0.0"

    @Option(help: ArgumentHelp("The port; 0 takes a free one.", valueName: "n"))
    var port = 8080

    @Option(help: ArgumentHelp("Listen on a Unix socket at this path instead.", valueName: "path"))
    var unix: String?

    @Option(help: "What waits for events: \(Engine.allCases.map(\.rawValue).joined(separator: ", ")).")
    var engine = Engine.libuv

    @Option(
        help: ArgumentHelp("Serve on N loops, each on its own thread; 0 means one for each core.", valueName: "n"))
    var loops: Int?

    @Option(help: ArgumentHelp("At most so many clients at a time; the rest wait.", valueName: "n"))
    var maxConnections: Int?

    @Option(help: ArgumentHelp("Close a client after so many seconds of silence.", valueName: "seconds"))
    var idleTimeout: Double?

    @Option(help: ArgumentHelp("So many clients wait in the kernel to be accepted.", valueName: "n"))
    var backlog = 511

    @Option(help: ArgumentHelp("After SIGINT or SIGTERM, let clients finish for so long.", valueName: "seconds"))
    var drain = 5.0

    @Flag(help: "Print nothing but the line that says where the server listens.")
    var quiet = false

    /// What the arguments mean to the listener.
    var listener: Listener.Options {
        var listener = Listener.Options()
        listener.backlog = backlog
        listener.maxConnections = maxConnections
        listener.connection.timeouts.idle = idleTimeout.map { .seconds($0) }
        return listener
    }

    /// How many loops make a group; `nil` for one loop without a group.
    var loopCount: Int? { loops.map { $0 == 0 ? EventLoop.Group.coreCount : $0 } }

    func validate() throws {
        try require((0...65_535).contains(port), "--port \(port) is not between 0 and 65535")
        try require(!host.isEmpty, "--host is empty")
        try require(unix?.isEmpty != true, "--unix is empty")
        try require((1...Int(Int32.max)).contains(backlog), "--backlog \(backlog) is not between 1 and \(Int32.max)")
        try require((0...86_400).contains(drain), "--drain \(drain) is not between 0 and 86400 seconds")
        if let loops { try require((0...1_024).contains(loops), "--loops \(loops) is not between 0 and 1024") }
        if let maxConnections {
            try require(maxConnections >= 1, "--max-connections \(maxConnections) is less than 1")
        }
        if let idleTimeout {
            try require(
                (0.001...31_536_000).contains(idleTimeout),
                "--idle-timeout \(idleTimeout) is not between 0.001 and 31536000 seconds")
        }
    }

    private func require(_ condition: Bool, _ sentence: String) throws {
        if !condition { throw ValidationError(sentence) }
    }
}

extension Engine: ExpressibleByArgument {}
