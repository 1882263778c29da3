import CallbackServer
import CallbackTLS
import ServerTestSupport
import TestSupport
import Testing

/// A client that has sent everything and is gone before the server reads any of it: the last message of the server's
/// handshake meets the reset.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `TLS and a reset right behind the handshake` {
    @Test(arguments: Engine.allCases, [true, false])
    func `what came before the reset is read`(engine: Engine, ends: Bool) throws {
        let (servers, clients) = (try EventLoop(engine: engine), try EventLoop(engine: engine))
        var told: [String] = []
        var accepted: Connection?
        let listener = try servers.listen(on: .ipv4("127.0.0.1", port: 0), tls: Certificates.server()) { connection in
            accepted = connection
            connection.onOpen = { connection in
                told.append("open")
                connection.write("welcome")
            }
            connection.onData = { told.append(String(decoding: Array(copying: $1), as: UTF8.self)) }
            connection.onEnd = { _ in told.append("end") }
            connection.onClose = { told.append("\($1), \($0.bytesWritten) written") }
        }
        let client = try clients.connect(to: listener.localAddress, tls: Certificates.client())
        var isOpen = false
        var isClosed = false
        client.onOpen = { client in
            isOpen = true
            client.write("hello")
            if ends { client.end() }
        }
        client.onClose = { _, _ in isClosed = true }
        while !isOpen {
            try servers.run(.noWait)
            try clients.run(.noWait)
        }
        client.reset()
        while !isClosed { try clients.run(.noWait) }
        waitForReset(of: try #require(accepted))
        while told.last?.contains("written") != true { try servers.run(.noWait) }
        #expect(told == ["open", "hello", "peerReset, 0 written"])
        listener.close()
    }
}
