import ArgumentParser
import CallbackServer
import ExampleSupport
import Foundation

/// Every bound of the program; that of a request's size is in `Request`.
private enum Limits {
    /// Clients at a time; more wait in the kernel.
    static let clients = 10_000
    /// How long a connection is kept without a request.
    static let idle = Duration.seconds(15)
    /// How long answers may wait for a client that reads nothing.
    static let unread = Duration.seconds(15)
}

@main
struct HTTPHello: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "http-hello", abstract: "An HTTP/1.1 server with one page.")

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("How long a request may take to arrive, all of it.", valueName: "seconds"))
    var requestTimeout = 5.0

    func validate() throws {
        guard (0.1...60).contains(requestTimeout) else {
            throw ValidationError("--request-timeout \(requestTimeout) is not between 0.1 and 60 seconds")
        }
    }

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        let server = Server(loop, requestTimeout: .seconds(requestTimeout))
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.idle = Limits.idle
        listening.connection.timeouts.write = Limits.unread
        let listener = try loop.listen(on: options.address, options: listening, onConnection: server.serve)
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain), farewell: server.close)
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}

/// What all clients share.
final class Server {
    let requestTimeout: Duration
    private(set) var isClosing = false
    /// The page with its head, as nearly all clients want it; made once a second, since the head tells the time.
    private(set) var page: [UInt8] = []
    private var clients: [Connection: Client] = [:]

    init(_ loop: EventLoop, requestTimeout: Duration) {
        self.requestTimeout = requestTimeout
        page = Array(Response(.ok).text().utf8)
        let clock = loop.schedule(after: .seconds(1), repeating: .seconds(1)) { [unowned self] _ in
            page = Array(Response(.ok).text().utf8)
        }
        clock.unref()
    }

    func serve(_ connection: Connection) {
        let client = Client(connection, self)
        clients[connection] = client
        connection.onFrames(limit: Client.longestLine) { _, reader in client.read(&reader) }
        connection.onDrain = { _ in client.drained() }
        connection.onClose = { [self] connection, _ in clients[connection] = nil }
    }

    /// A request that has begun is still answered; the others have nothing to wait for.
    func close() {
        isClosing = true
        for client in clients.values where !client.isInsideRequest { client.hangUp() }
    }
}

/// What is sent: a page, or why there is none.
struct Response {
    let status: Status

    enum Status: String {
        case ok = "200 OK"
        case badRequest = "400 Bad Request"
        case notFound = "404 Not Found"
        case methodNotAllowed = "405 Method Not Allowed"
        case requestTimeout = "408 Request Timeout"
        case contentTooLarge = "413 Content Too Large"
        case uriTooLong = "414 URI Too Long"
        case misdirectedRequest = "421 Misdirected Request"
        case headerFieldsTooLarge = "431 Request Header Fields Too Large"
        case notImplemented = "501 Not Implemented"
        case versionNotSupported = "505 HTTP Version Not Supported"
    }

    init(_ status: Status) {
        self.status = status
    }

    /// Head and body; for HEAD, the same head alone (RFC 9110, section 9.3.2).
    func text(isHead: Bool = false, closes: Bool = false) -> String {
        let body = status == .ok ? "Hello, world!\n" : status.rawValue + "\n"
        var text = "HTTP/1.1 \(status.rawValue)\r\nDate: \(Self.date)\r\n"
        text += "Content-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n"
        if status == .methodNotAllowed { text += "Allow: GET, HEAD\r\n" }
        if closes { text += "Connection: close\r\n" }
        return text + "\r\n" + (isHead ? "" : body)
    }

    /// The time, as RFC 9110, section 5.6.7, wants it.
    private static var date: String {
        Date.now.formatted(
            Date.VerbatimFormatStyle(
                format: """
                    \(weekday: .abbreviated), \(day: .twoDigits) \(month: .abbreviated) \(year: .padded(4)) \
                    \(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased)):\(minute: .twoDigits):\
                    \(second: .twoDigits) GMT
                    """,
                locale: Locale(identifier: "en_US_POSIX"), timeZone: .gmt, calendar: Calendar(identifier: .gregorian)))
    }
}
