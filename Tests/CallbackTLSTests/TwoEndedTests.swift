import CallbackServer
import CallbackTLS
import ServerTestSupport
import TestSupport
import Testing

/// Server and client of this library on one loop.
@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `TLS at both ends` {
    @Test(arguments: Engine.allCases, TLS.Version.allCases)
    func `echoes what is written, and both ends see an end`(engine: Engine, version: TLS.Version) throws {
        let loop = try EventLoop(engine: engine)
        var told: [String] = []
        var closes = 0
        let listener = try loop.listen(
            on: .ipv4("127.0.0.1", port: 0), tls: Certificates.server { $0.applicationProtocols = ["x", "y"] }
        ) { connection in
            told.append("accepted")
            connection.onOpen = { told.append("server open \($0.tls?.version.description ?? "-")") }
            connection.onData = { connection, bytes in connection.write(bytes) }
            connection.onEnd = { _ in told.append("server end") }
            connection.onClose = { _, reason in
                told.append("server \(reason)")
                closes += 1
            }
        }
        let client = try loop.connect(
            to: listener.localAddress,
            tls: Certificates.client {
                $0.maximumVersion = version
                $0.applicationProtocols = ["y"]
            })
        var received = 0
        client.write("early ")
        client.onOpen = { connection in
            told.append("client open \(connection.tls?.applicationProtocol ?? "-")")
            #expect(connection.tls?.version == version)
            #expect(connection.tls?.peerCertificates.first?.subject == "CN=localhost")
            connection.write("hello")
        }
        client.onData = { connection, bytes in
            received += bytes.count
            if received == 11 { connection.end() }
        }
        client.onClose = { _, reason in
            told.append("client \(reason)")
            closes += 1
        }
        try loop.run(until: { closes == 2 })
        #expect(received == 11)
        #expect(told.contains("accepted"))
        #expect(told.contains("server open \(version)"))
        #expect(told.contains("client open y"))
        #expect(told.contains("server end"))
        #expect(told.contains("server peerClosed"))
        #expect(told.contains("client localClose"))
        #expect(client.bytesWritten == 11 && client.bytesRead == 11)
        listener.close()
    }
}
