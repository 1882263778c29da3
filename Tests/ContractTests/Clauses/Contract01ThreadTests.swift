import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 1: one thread, never nested` {
    @Test(arguments: Engine.allCases)
    func `every kind of callback runs on the thread inside run`(engine: Engine) throws {
        let overseer = Overseer()
        let diary = Diary(overseer)
        let options = Listener.Options.connections {
            $0.highWaterMark = 1
            $0.lowWaterMark = 0
            $0.timeouts.read = .milliseconds(5)
        }
        let stage = try Stage(engine, options: options) { connection in
            overseer.callback("onConnection") {}
            var reactions = Diary.Reactions()
            reactions.data = { connection, bytes in
                connection.write([UInt8](copying: bytes), completion: diary.completion())
            }
            reactions.timeout = { _, _ in .keep }
            diary.follow(connection, reactions)
        }
        stage.listener.onClose = { _ in overseer.callback("Listener.onClose") {} }
        let watcher = try stage.loop.onSignal(.harmless(to: engine)) { _ in overseer.callback("onSignal") {} }
        watcher.unref()
        stage.loop.schedule(after: .zero) { _ in overseer.callback("schedule, zero") {} }
        try stage.loop.resolve(host: "127.0.0.1", port: 1) { _ in overseer.callback("resolve") {} }
        let names = [
            "Listener.onClose", "completion", "onClose", "onConnection", "onData", "onDrain", "onEnd", "onSignal",
            "onTimeout", "resolve", "schedule", "schedule, zero",
        ]
        let client = try PlainClient(port: stage.port)
        try stage.run(until: { overseer.counts["onConnection"] != nil })
        stage.listener.close()
        try client.send("x")
        stage.loop.schedule(after: .milliseconds(1)) { _ in overseer.callback("schedule") {} }
        #expect(kill(getpid(), EventLoop.Signal.harmless(to: engine).rawValue) == 0)
        let early = Set(names).subtracting(["onEnd", "onClose"])
        try stage.run(until: { early.isSubset(of: overseer.counts.keys) })
        _ = try client.receive(exactly: 1)
        client.close()
        try stage.run(until: { diary.isClosed })
        watcher.cancel()
        #expect(overseer.counts.keys.sorted() == names)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `no callback runs inside a call on a connection that works`(engine: Engine) throws {
        let diary = Diary()
        let overseer = diary.overseer
        let options = Listener.Options.connections {
            $0.highWaterMark = 4_096
            $0.lowWaterMark = 1_024
        }
        let large = pseudoRandomBytes(count: 1 << 20)
        let stage = try Stage(engine, options: options) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                let small: [UInt8] = [1, 2, 3]
                overseer.call("write") { _ = connection.write(small) }
                overseer.call("write, completion") {
                    _ = connection.write(small, completion: diary.completion())
                }
                overseer.call("write of nothing, completion") {
                    _ = connection.write([UInt8](), completion: diary.completion())
                }
                // Small enough for the kernel to take all of it at once, so that both are owed at once.
                overseer.call("write, saturating") {
                    let status = connection.write(pseudoRandomBytes(count: 8_192), completion: diary.completion())
                    #expect(status == .saturated)
                }
                overseer.call("pause, resume") {
                    connection.pause()
                    connection.resume()
                }
                overseer.call("write, large") {
                    _ = connection.write(large, completion: diary.completion())
                }
                overseer.call("end") { connection.end() }
            }
            diary.follow(connection, reactions)
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            let bytes = try client.receiveUntilEnd()
            #expect(bytes.count == 6 + 8_192 + (1 << 20))
        }
        #expect(diary.results == [.sent, .sent, .sent, .sent])
        diary.expectOrder()
    }

    enum Closing: CaseIterable { case close, reset, endThenClose, closeThenReset }

    @Test(arguments: Engine.allCases, Closing.allCases)
    func `no callback runs inside a call that closes, with completions waiting`(
        engine: Engine, closing: Closing
    ) throws {
        let diary = Diary()
        let overseer = diary.overseer
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                overseer.call("write") { _ = connection.write("small", completion: diary.completion()) }
                overseer.call("write, large") {
                    _ = connection.write([UInt8](repeating: 1, count: 16 << 20), completion: diary.completion())
                }
                overseer.call("\(closing)") {
                    switch closing {
                    case .close: connection.close()
                    case .reset: connection.reset()
                    case .endThenClose:
                        connection.end()
                        connection.close()
                    case .closeThenReset:
                        connection.close()
                        connection.reset()
                    }
                }
            }
            diary.follow(connection, reactions)
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            _ = try client.receiveUntilOver()
        }
        #expect(diary.completions.count == 2)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, [100, 100_000])
    func `no callback runs inside a write that fails`(engine: Engine, count: Int) throws {
        let diary = Diary()
        let overseer = diary.overseer
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                waitForHangUp(connection.descriptor)
                // The first meets the reset; the later ones find the connection as it is then.
                for _ in 0..<3 {
                    overseer.call("write") {
                        _ = connection.write([UInt8](repeating: 7, count: count), completion: diary.completion())
                    }
                }
                overseer.call("end") { connection.end() }
                overseer.call("close") { connection.close() }
            }
            diary.follow(connection, reactions)
        }
        // The client is gone before it is accepted, perhaps.
        stage.mayEnd = { diary.isClosed }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try client.reset()
        }
        diary.expectOrder()
        for (_, result) in diary.completions {
            #expect(result == .failed(.peerReset), "nobody was there to take the bytes")
        }
    }

    @Test(arguments: Engine.allCases)
    func `no callback runs inside a call on a listener, a timer or the loop`(engine: Engine) throws {
        let overseer = Overseer()
        let stage = try Stage(engine)
        let loop = stage.loop
        stage.listener.onClose = { _ in overseer.callback("Listener.onClose") {} }
        loop.schedule(after: .zero) { timer in
            overseer.callback("first") {
                overseer.call("schedule") {
                    _ = loop.schedule(after: .zero) { _ in overseer.callback("second") {} }
                }
                overseer.call("reschedule") { timer.reschedule(after: .seconds(100)) }
                overseer.call("cancel") { timer.cancel() }
                overseer.call("resolve") {
                    _ = try? loop.resolve(host: "127.0.0.1", port: 1) { _ in overseer.callback("resolve") {} }
                }
                overseer.call("pause") { stage.listener.pause() }
                overseer.call("resume") { stage.listener.resume() }
                overseer.call("drain") {
                    stage.listener.drain(within: .zero) { _ in overseer.callback("drained") {} }
                }
                overseer.call("close") { stage.listener.close() }
            }
        }
        try loop.run()
        #expect(overseer.counts.values.allSatisfy { $0 == 1 })
        #expect(overseer.counts.keys.sorted() == ["Listener.onClose", "drained", "first", "resolve", "second"])
        #expect(overseer.faults == [])
    }

    @Test(arguments: Engine.allCases)
    func `what a call causes is delivered in the same turn or the next`(engine: Engine) throws {
        let diary = Diary()
        var turnsUntilClosed: Int?
        weak var loop: EventLoop?
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                connection.write("bye", completion: diary.completion())
                connection.close()
                // A zero delay fires in the next turn, so the second of two has seen the whole of the next turn.
                loop?.schedule(after: .zero) { _ in
                    loop?.schedule(after: .zero) { _ in turnsUntilClosed = diary.isClosed ? 1 : 2 }
                }
            }
            diary.follow(connection, reactions)
        }
        loop = stage.loop
        stage.mayEnd = { turnsUntilClosed != nil }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            #expect(try client.receiveUntilOver().bytes == Array("bye".utf8))
        }
        #expect(turnsUntilClosed == 1)
        #expect(diary.events == [.data(1), .completion(0, .sent), .close(.localClose)])
        diary.expectOrder()
    }
}
