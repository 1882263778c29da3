import CallbackServer

/// A TCP proxy: what a client sends goes to one server, and what that answers goes back.
///
/// Nothing here counts bytes, holds a queue, looks at a water mark or hands on an end: `pipe(to:)` does.
final class Proxy {
    let loop: EventLoop
    let listener: Listener

    init(_ engine: Engine, to server: SocketAddress) throws(IOError) {
        let loop = try EventLoop(engine: engine)
        self.loop = loop
        // Weak, since the loop holds the listener, and so this closure.
        listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { [weak loop] client in
            do throws(IOError) {
                guard let server = try loop?.connect(to: server) else { return }
                client.pipe(to: server)
                server.pipe(to: client)
            } catch {
                // No descriptor is left for the other side.
                client.reset()
            }
        }
    }

    var port: UInt16 { UInt16(listener.localAddress.port ?? 0) }
}
