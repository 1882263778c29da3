import CallbackServer
import TestSupport
import Testing

/// Connections that this side begins.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Clients` {
    @Test(arguments: Engine.allCases, [false, true])
    func `onOpen comes before what the first writes cause`(engine: Engine, byName: Bool) throws {
        let stage = try Stage(engine, serve: echo)
        var events: [String] = []
        let connection =
            try byName
            ? stage.loop.connect(host: "127.0.0.1", port: Int(stage.port))
            : stage.loop.connect(to: stage.listener.localAddress)
        connection.onOpen = { _ in events.append("open") }
        connection.onDrain = { connection in
            events.append("drain")
            connection.close()
        }
        connection.onClose = { _, reason in events.append("\(reason)") }
        let status = connection.write([UInt8](repeating: 1, count: 70_000)) { events.append("\($0)") }
        #expect(status == .saturated)
        try stage.run(until: { events.contains("\(CloseReason.localClose)") })
        #expect(events == ["open", "\(WriteResult.sent)", "drain", "\(CloseReason.localClose)"])
    }

    @Test(arguments: Engine.allCases, [false, true])
    func `one that is closed before it is open sends what was written, and closes`(
        engine: Engine, byName: Bool
    ) throws {
        var received: [UInt8] = []
        var reason: CloseReason?
        let stage = try Stage(engine) { connection in
            connection.onData = { _, bytes in received += [UInt8](copying: bytes) }
        }
        var options = EventLoop.ConnectOptions()
        options.connection.timeouts.close = .seconds(600)
        let connection =
            try byName
            ? stage.loop.connect(host: "127.0.0.1", port: Int(stage.port), options: options)
            : stage.loop.connect(to: stage.listener.localAddress, options: options)
        connection.onClose = { _, why in reason = why }
        connection.write("hello")
        connection.close()
        try stage.run(until: { reason != nil && received.count == 5 })
        #expect(reason == .localClose)
        #expect(received == Array("hello".utf8))
    }
}
