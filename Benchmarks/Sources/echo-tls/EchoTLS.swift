import CallbackServer
import CallbackTLS
import Glibc

/// The yardstick of TLS over the public API, on the libuv engine.
///
///     echo-tls CERTIFICATE KEY
///
/// On 127.0.0.1, on a free port. SIGTERM ends it with status 0.
@main
struct EchoTLS {
    static func main() throws {
        guard CommandLine.arguments.count == 3 else {
            print("usage: echo-tls CERTIFICATE KEY")
            exit(64)
        }
        try serve(certificate: CommandLine.arguments[1], key: CommandLine.arguments[2])
    }

    static func serve(certificate: String, key: String) throws {
        let tls = try TLS.Server(certificateChain: .file(certificate), privateKey: .file(key))
        let loop = try EventLoop(engine: .libuv)
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), tls: tls) { connection in
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
