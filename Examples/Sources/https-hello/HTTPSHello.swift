import ArgumentParser
import CallbackServer
import CallbackTLS
import ExampleSupport
import ExampleTLS
import HelloHTTP

@main
struct HTTPSHello: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "https-hello", abstract: "An HTTP/1.1 server with one page, over TLS 1.2 and 1.3.",
        discussion: "SIGHUP reads the certificate and its key again; SIGTERM and SIGINT drain.")

    @OptionGroup var options: ServerOptions

    @OptionGroup var files: IdentityFiles

    @Option(
        help: ArgumentHelp("Refuse clients whose certificate does not lead to one in this file.", valueName: "file"))
    var clientCA: String?

    @OptionGroup var bounds: HTTPOptions

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        var speaking = TLS.Server.Options()
        speaking.applicationProtocols = ["http/1.1"]
        if let clientCA { speaking.clientCertificates = .required(.certificates(.file(clientCA))) }
        let tls = try files.server(speaking, on: loop)
        let server = Server(loop, bounds, scheme: "https")
        let listener = try loop.listen(
            on: options.address, tls: tls, options: bounds.listening, onConnection: server.serve)
        listener.onError = { _, error in printLine("\(error)") }
        listener.onHandshakeFailed = { _, failure in printLine("No handshake with \(failure)") }
        try loop.drain(listener, within: .seconds(options.drain), farewell: server.close)
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}
