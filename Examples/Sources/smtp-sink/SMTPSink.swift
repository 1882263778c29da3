import ArgumentParser
import CallbackServer
import CallbackTLS
import ExampleSupport
import ExampleTLS

/// Every bound of the program, beside those of `Session`.
private enum Limits {
    /// Clients at a time; more wait in the kernel.
    static let clients = 1_000
    /// How long a client may be silent (RFC 5321, section 4.5.3.2.7), or leave replies unread.
    static let idle = Duration.seconds(300)
}

@main
struct SMTPSink: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "smtp-sink", abstract: "Takes mail by SMTP, counts it, and drops it.",
        discussion: """
            It speaks TLS with clients that ask for it (STARTTLS). \
            SIGHUP reads the certificate and its key again; SIGTERM and SIGINT drain.
            """)

    @OptionGroup var options: ServerOptions

    @OptionGroup var files: IdentityFiles

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        let sink = Sink(try files.server(.init(), on: loop))
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.idle = Limits.idle
        let listener = try loop.listen(on: options.address, options: listening, onConnection: sink.serve)
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain), farewell: sink.close)
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}

/// What all clients share.
final class Sink {
    let tls: TLS.Server
    private(set) var isClosing = false
    private var mailCount = 0
    private var sessions: [Connection: Session] = [:]

    init(_ tls: TLS.Server) {
        self.tls = tls
    }

    func serve(_ connection: Connection) {
        let session = Session(connection, self)
        sessions[connection] = session
        connection.onClose = { [self] connection, reason in
            sessions[connection] = nil
            if case .failed(let error) = reason { printLine("\(error)") }
        }
        session.begin()
    }

    func dropped(_ mail: Mail, from connection: Connection) {
        mailCount += 1
        let way = connection.tls.map { "\($0.version)" } ?? "in clear"
        printLine("Mail \(mailCount): \(mail.byteCount) bytes for \(mail.recipientCount), \(way)")
    }

    /// A mail that has begun is still taken.
    func close() {
        isClosing = true
        for session in sessions.values where !session.isInsideMail { session.hangUp() }
    }
}
