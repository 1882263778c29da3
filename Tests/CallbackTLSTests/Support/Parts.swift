import CallbackServer

/// Passes on what a client and a server exchange, in parts of at most so many bytes, each in a segment of its own.
final class Parts {
    let listener: Listener

    init(_ loop: EventLoop, to address: SocketAddress, _ size: Int) throws {
        listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { [unowned loop] client in
            guard let server = try? loop.connect(to: address) else { return client.reset() }
            client.onData = { _, bytes in Self.pass(bytes, to: server, size) }
            server.onData = { _, bytes in Self.pass(bytes, to: client, size) }
            client.onClose = { _, _ in server.close() }
            server.onClose = { _, _ in client.close() }
        }
    }

    private static func pass(_ bytes: Span<UInt8>, to target: Connection, _ size: Int) {
        let all = Array(copying: bytes)
        for start in stride(from: 0, to: all.count, by: size) {
            let part = all[start..<min(start + size, all.count)]
            // Each in a callback of its own, since one callback's writes leave together.
            target.schedule(after: .zero) { target, _ in target.write(part) }
        }
    }
}
