import CallbackServer
import Glibc
import TestSupport
import Testing

/// What `Connection.Options.timeouts` says.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Time-outs` {
    private static let idle = Duration.milliseconds(200)

    /// Computes for longer than the time-outs here.
    private func work() {
        let end = ContinuousClock.now + Self.idle + Self.idle
        while ContinuousClock.now < end { poll(nil, 0, 10) }
    }

    @Test(arguments: Engine.allCases)
    func `the time that a callback takes is nobody's silence`(engine: Engine) throws {
        var served = 0
        var silences: [Duration] = []
        let stage = try Stage(engine, options: .connections { $0.timeouts.idle = Self.idle }) { connection in
            var lastRead = ContinuousClock.now
            connection.onData = { _, _ in
                served += 1
                // The first has made the loop look at its clock; the third is read from after this, in the same turn.
                if served == 2 { work() }
                lastRead = .now
            }
            connection.onClose = { _, reason in
                #expect(reason == .timedOut(.idle))
                silences.append(ContinuousClock.now - lastRead)
            }
        }
        let clients = try (0..<3).map { _ in try PlainClient(port: stage.port) }
        try stage.run(until: { stage.listener.connectionCount == 3 })
        for client in clients { try client.send("x") }
        try stage.run(until: { silences.count == 3 })
        #expect(served == 3)
        #expect(silences.allSatisfy { $0 >= Self.idle }, "closed after \(silences)")
        withExtendedLifetime(clients) {}
    }

    @Test(arguments: Engine.allCases)
    func `what happened before a connection began is not part of its time`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        // A listener that never accepts: one client fills its queue, and the next waits for good.
        let listener = try PlainListener(backlog: 0)
        let first = try PlainClient(port: listener.port)
        _ = loop.now
        work()
        var options = EventLoop.ConnectOptions()
        options.connection.timeouts.connect = Self.idle
        var reason: CloseReason?
        let start = ContinuousClock.now
        let connection = try loop.connect(to: .ipv4("127.0.0.1", port: Int(listener.port)), options: options)
        connection.onClose = { _, why in reason = why }
        try loop.run()
        #expect(reason == .timedOut(.connect))
        #expect(ContinuousClock.now - start >= Self.idle)
        _ = first
    }

    @Test(arguments: Engine.allCases)
    func `a close from onTimeout has its own time to flush, whatever the callback answers`(engine: Engine) throws {
        let answer = [UInt8](repeating: 1, count: 4 << 20)
        let diary = Diary()
        let options = Listener.Options.connections {
            $0.sendBufferSize = 16_384
            $0.timeouts.idle = .milliseconds(20)
            $0.timeouts.close = .seconds(60)
        }
        let stage = try Stage(engine, options: options) { connection in
            diary.follow(
                connection,
                .init(timeout: { connection, _ in
                    connection.write(answer)
                    connection.close()
                    return .close
                }))
        }
        let received = try stage.run { port in try PlainClient(port: port).receiveUntilOver() }
        #expect(received.bytes.count == answer.count)
        #expect(received.ending == .end)
        #expect(diary.closeReasons == [.localClose])
        diary.expectOrder()
    }
}
