import CallbackAsync
import CallbackServer
import Glibc

/// The same server as `echo-callbackserver`, with a task for each connection instead of callbacks: what it costs more
/// is the price of the asynchronous layer.
///
///     echo-async [--engine NAME]
///
/// On 127.0.0.1, on a free port. SIGTERM ends it with status 0.
@main
struct EchoAsync {
    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        let name = arguments.isEmpty ? Engine.libuv.rawValue : arguments.last ?? ""
        guard let engine = Engine(rawValue: name), arguments.isEmpty || arguments.first == "--engine" else {
            print("usage: echo-async [--engine NAME]")
            exit(64)
        }
        try serve(on: engine)
    }

    /// Not in `main`, which is the main actor's: tasks that belong to no actor are the loop's, and cost less.
    private static func serve(on engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
            // Until its task waits.
            connection.pause()
            connection.task {
                do {
                    for try await bytes in connection.bytes { try await connection.send(bytes) }
                } catch {
                    // The connection has closed, and why is of no interest here.
                }
            }
        }
        try loop.onSignal(.terminate) { _ in loop.stop() }
        print("Listening on port \(listener.localAddress.port ?? 0)")
        // Into a pipe or a file the line would stay in the buffer.
        fflush(nil)
        try loop.run()
    }
}
