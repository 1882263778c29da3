import CallbackServer
import Glibc

/// The yardsticks' program over the public API, with nothing printed for a message: what it costs more than
/// they do is the price of the API.
///
///     echo-callbackserver [--engine NAME] [--list-engines]
///
/// On 127.0.0.1, on a free port. SIGTERM ends it with status 0.
@main
struct EchoCallbackServer {
    static func main() throws(IOError) {
        var engine = Engine.libuv
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            if argument == "--list-engines" {
                for engine in Engine.allCases { print(engine.rawValue) }
                return
            }
            guard argument == "--engine", let name = arguments.popFirst(), let named = Engine(rawValue: name) else {
                print("usage: echo-callbackserver [--engine NAME] [--list-engines]")
                exit(64)
            }
            engine = named
        }
        try serve(on: engine)
    }

    static func serve(on engine: Engine) throws(IOError) {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            connection.onData = { connection, bytes in
                if connection.write(bytes) == .saturated { connection.pause() }
            }
            connection.onDrain = { connection in connection.resume() }
        }
        try loop.onSignal(.terminate) { _ in loop.stop() }
        print("Listening on port \(listener.localAddress.port ?? 0)")
        // Into a pipe or a file the line would stay in the buffer.
        fflush(nil)
        try loop.run()
    }
}
