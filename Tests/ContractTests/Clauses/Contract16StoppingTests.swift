import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 16: stopping` {
    @Test(arguments: Engine.allCases, [.untilIdle, .once, .noWait] as [EventLoop.RunMode])
    func `a run with nothing to wait for returns at once`(engine: Engine, mode: EventLoop.RunMode) throws {
        let loop = try EventLoop(engine: engine)
        #expect(!loop.isAlive)
        try loop.run(mode)
        loop.schedule(after: .zero) { _ in }
        #expect(loop.isAlive)
        try loop.run()
        try loop.run(mode)
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `run returns when the last listener and the last connection have closed`(engine: Engine) throws {
        var events: [String] = []
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listen { connection in
            echo(connection)
            connection.onClose = { _, _ in events.append("connection") }
        }
        let isClosed = Milestone("the listener to close")
        listener.onClose = { _ in
            events.append("listener")
            isClosed.reach()
        }
        #expect(loop.isAlive)
        let port = listener.port
        let client = try PlainClient(port: port)
        loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
            guard listener.connectionCount == 1 else { return }
            listener.close()
            timer.cancel()
        }
        let peer = onThread {
            try client.echoExactly(10_000)
            // Not before, or the timer might never see the connection.
            try isClosed.wait()
            try client.halfClose()
            try client.expectEnd()
        }
        try loop.run()
        try peer.value()
        #expect(events == ["listener", "connection"])
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `a connection that is paused keeps the loop`(engine: Engine) throws {
        var connection: Connection?
        let stage = try Stage(engine) { accepted in
            accepted.pause()
            connection = accepted
        }
        let client = try PlainClient(port: stage.port)
        try stage.run(until: { connection != nil })
        stage.listener.close()
        try stage.loop.run(.noWait)
        try stage.loop.run(.noWait)
        #expect(stage.loop.isAlive)
        var fired = false
        let timer = stage.loop.schedule(after: .milliseconds(5)) { _ in
            fired = true
            connection?.close()
        }
        timer.unref()
        try stage.loop.run()
        #expect(fired)
        #expect(!stage.loop.isAlive)
        client.close()
    }

    @Test(arguments: Engine.allCases)
    func `stop ends the run at the end of the turn, and the next run goes on`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var events: [String] = []
        loop.schedule(after: .zero) { _ in
            events.append("stop")
            loop.stop()
            loop.stop()
            loop.schedule(after: .zero) { _ in events.append("next turn") }
        }
        loop.schedule(after: .zero) { _ in events.append("same turn") }
        loop.schedule(after: .milliseconds(10)) { _ in events.append("later") }
        try loop.run()
        #expect(events == ["stop", "same turn"])
        #expect(loop.isAlive)
        try loop.run()
        #expect(events == ["stop", "same turn", "next turn", "later"])
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `stop outside of run does nothing`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var fired = false
        loop.schedule(after: .milliseconds(2)) { _ in fired = true }
        loop.stop()
        try loop.run()
        #expect(fired)
        loop.stop()
        loop.schedule(after: .zero) { _ in fired = false }
        try loop.run()
        #expect(!fired)
    }

    @Test(arguments: Engine.allCases)
    func `connections go on where a stop has left them`(engine: Engine) throws {
        let stage = try Stage(engine, serve: echo)
        let stopped = Flag()
        let peer = onThread { [port = stage.port] in
            let client = try PlainClient(port: port)
            repeat { try client.echoExactly(1 << 20) } while !stopped.isSet
            client.close()
        }
        var runs = 0
        while !peer.isFinished || stage.listener.connectionCount > 0 {
            let stopping = stage.loop.schedule(after: .milliseconds(1)) { _ in stage.loop.stop() }
            try stage.loop.run()
            stopping.cancel()
            runs += 1
            if runs == 10 { stopped.set() }
        }
        try peer.value()
    }

    @Test(arguments: Engine.allCases)
    func `once is one turn, and waits for it`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var fired: [Int] = []
        let start = monotonicTime()
        loop.schedule(after: .milliseconds(15)) { _ in fired.append(1) }
        loop.schedule(after: .seconds(60)) { _ in fired.append(2) }
        // A turn may end without an event, never without having waited for one.
        while fired.isEmpty { try loop.run(.once) }
        #expect(monotonicTime() - start >= .milliseconds(15))
        #expect(fired == [1])
        loop.schedule(after: .zero) { timer in
            fired.append(3)
            if fired.count < 10 { timer.reschedule(after: .zero) }
        }
        try loop.run(.once)
        #expect(fired == [1, 3])
    }

    @Test(arguments: Engine.allCases)
    func `noWait is one turn, and does not wait`(engine: Engine) throws {
        let stage = try Stage(engine, serve: echo)
        var turns = 0
        stage.loop.schedule(after: .seconds(60)) { _ in turns = -1 }
        let start = monotonicTime()
        for _ in 0..<100 { try stage.loop.run(.noWait) }
        #expect(monotonicTime() - start < .seconds(10))
        let client = try PlainClient(port: stage.port)
        let peer = onThread {
            try client.echoExactly(1_000)
            client.close()
        }
        while !peer.isFinished || stage.listener.connectionCount > 0 {
            try stage.loop.run(.noWait)
            turns += 1
        }
        try peer.value()
        #expect(turns > 0)
    }

    @Test(arguments: Engine.allCases)
    func `several loops, each on its own thread`(engine: Engine) throws {
        let threads = (0..<4).map { index in
            onThread {
                let loop = try EventLoop(engine: engine)
                let listener = try loop.listen { [unowned loop] connection in
                    echo(connection)
                    connection.onClose = { [unowned loop] _, _ in loop.stop() }
                }
                let client = try PlainClient(port: listener.port)
                let peer = onThread {
                    try client.echoExactly(1 << 20, seed: UInt64(index))
                    client.close()
                }
                try loop.run()
                try peer.value()
            }
        }
        for thread in threads { try thread.value(timeLimit: .seconds(20)) }
    }
}
