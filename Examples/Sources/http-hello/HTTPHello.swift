import ArgumentParser
import CallbackServer
import ExampleSupport
import HelloHTTP

@main
struct HTTPHello: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "http-hello", abstract: "An HTTP/1.1 server with one page.")

    @OptionGroup var options: ServerOptions

    @OptionGroup var bounds: HTTPOptions

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        let server = Server(loop, bounds)
        let listener = try loop.listen(on: options.address, options: bounds.listening, onConnection: server.serve)
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain), farewell: server.close)
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}
