import CallbackServer
import TestSupport
import Testing

/// The time-outs that tell slow from too slow: `Timeouts.saturated` and `Timeouts.minimumRate`.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A peer that is too slow` {
    private func makeScene(_ engine: Engine, _ change: (inout Connection.Options) -> Void) throws -> StepStage {
        try StepStage(
            engine,
            .connections {
                $0.sendBufferSize = 4_096
                change(&$0)
            })
    }

    @Test(arguments: Engine.allCases)
    func `ends when its queue was not drained in time, though it takes bytes all the while`(engine: Engine) throws {
        let scene = try makeScene(engine) {
            $0.timeouts.saturated = .milliseconds(300)
            $0.timeouts.write = .seconds(20)
        }
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        let start = ContinuousClock.now
        connection.fillQueue(to: 1 << 20)
        scene.loop.schedule(after: .zero, repeating: .milliseconds(10)) { timer in
            if (try? peer.receiveSome(max: 4_096)) == nil { timer.cancel() }
        }.unref()
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.saturated))
        #expect(ContinuousClock.now - start >= .milliseconds(300))
        #expect(connection.bytesUnsent > 0)
    }

    @Test(arguments: Engine.allCases)
    func `is kept while each queue is drained in time, however long that goes on`(engine: Engine) throws {
        let scene = try makeScene(engine) { $0.timeouts.saturated = .milliseconds(400) }
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        var drains = 0
        connection.onDrain = { connection in
            drains += 1
            connection.fillQueue(to: connection.options.highWaterMark)
        }
        connection.fillQueue(to: connection.options.highWaterMark)
        let start = ContinuousClock.now
        try scene.run { while ContinuousClock.now < start + .milliseconds(1_200) { _ = try peer.receiveSome() } }
        #expect(scene.reason(of: connection) == nil)
        #expect(drains > 3)
        // It reads no more: now its time is up.
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.saturated))
    }

    @Test(arguments: Engine.allCases)
    func `has its time anew when onTimeout keeps it`(engine: Engine) throws {
        let scene = try makeScene(engine) { $0.timeouts.saturated = .milliseconds(50) }
        var kinds: [TimeoutKind] = []
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096) {
            $0.onTimeout = { _, kind in
                kinds.append(kind)
                return kinds.count < 3 ? .keep : .close
            }
        }
        connection.fillQueue(to: 1 << 20)
        try scene.runUntilClosed(connection)
        #expect(kinds == [.saturated, .saturated, .saturated])
        #expect(try peer.receiveUntilOver().ending == .reset)
    }

    /// How the peer's bytes are told.
    enum Telling: CaseIterable { case data, lines, messages }

    private func listen(_ connection: Connection, _ telling: Telling) {
        switch telling {
        case .data: connection.onData = { _, _ in }
        case .lines: connection.onLines(limit: 1 << 20) { _, _ in }
        case .messages: connection.onMessages(lengthPrefix: .uint32, limit: 1 << 20) { _, _ in }
        }
    }

    @Test(arguments: combined(Engine.allCases, Telling.allCases))
    func `sends a byte at a time and ends; one that is merely slow does not`(
        engine: Engine, telling: Telling
    ) throws {
        let scene = try makeScene(engine) {
            $0.timeouts.minimumRate = .init(bytesPerSecond: 200, window: .seconds(1))
        }
        let (dripping, drip) = try scene.connect { self.listen($0, telling) }
        let (slow, honest) = try scene.connect { self.listen($0, telling) }
        // A length of 1 MiB, which never comes; as a line it has no end.
        try drip.send([0, 0x10, 0, 0])
        try honest.send([0, 0x10, 0, 0])
        scene.loop.schedule(after: .zero, repeating: .milliseconds(50)) { _ in
            try? drip.send("x")
            try? honest.send([UInt8](repeating: 120, count: 20))
        }.unref()
        try scene.runUntilClosed(dripping)
        #expect(scene.reason(of: dripping) == .timedOut(.minimumRate))
        let start = ContinuousClock.now
        try scene.loop.run(until: { ContinuousClock.now > start + .milliseconds(2_100) })
        #expect(scene.reason(of: slow) == nil)
    }

    @Test(arguments: Engine.allCases, [Telling.lines, .messages])
    func `owes nothing between two frames, nor while it is not read`(engine: Engine, telling: Telling) throws {
        let scene = try makeScene(engine) {
            $0.timeouts.minimumRate = .init(bytesPerSecond: 1_000, window: .seconds(1))
        }
        let (quiet, quietPeer) = try scene.connect { self.listen($0, telling) }
        let (paused, pausedPeer) = try scene.connect { self.listen($0, telling) }
        let frame: [UInt8] = telling == .lines ? [120, 10] : [0, 0, 0, 1, 120]
        try quietPeer.send(frame)
        // The beginning of a frame, and then it is this side that does not read on.
        try pausedPeer.send([0, 0, 0])
        try scene.loop.run(until: { quiet.bytesRead == frame.count && paused.bytesRead == 3 })
        paused.pause()
        let start = ContinuousClock.now
        try scene.loop.run(until: { ContinuousClock.now > start + .milliseconds(2_500) })
        #expect(scene.reason(of: quiet) == nil)
        #expect(scene.reason(of: paused) == nil)
        let resumed = ContinuousClock.now
        paused.resume()
        try scene.runUntilClosed(paused)
        #expect(scene.reason(of: paused) == .timedOut(.minimumRate))
        #expect(ContinuousClock.now - resumed >= .seconds(1), "the pause counts for nothing")
        #expect(scene.reason(of: quiet) == nil)
    }

    @Test(arguments: Engine.allCases)
    func `ends also if the connection pauses at each of its bytes`(engine: Engine) throws {
        let scene = try makeScene(engine) {
            $0.timeouts.minimumRate = .init(bytesPerSecond: 200, window: .seconds(1))
        }
        let (connection, drip) = try scene.connect {
            $0.onData = { connection, _ in
                connection.pause()
                connection.schedule(after: .zero) { connection, _ in connection.resume() }
            }
        }
        scene.loop.schedule(after: .zero, repeating: .milliseconds(50)) { _ in try? drip.send("x") }.unref()
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.minimumRate))
    }

    @Test(arguments: Engine.allCases)
    func `ends also if the connection pauses whenever a window is over`(engine: Engine) throws {
        let scene = try makeScene(engine) {
            $0.timeouts.minimumRate = .init(bytesPerSecond: 200, window: .seconds(1))
        }
        let (connection, drip) = try scene.connect { self.listen($0, .data) }
        let start = ContinuousClock.now
        scene.loop.schedule(after: .zero, repeating: .milliseconds(20)) { _ in
            try? drip.send("x")
            let time = (ContinuousClock.now - start) / .milliseconds(1)
            if (200..<800).contains(time.truncatingRemainder(dividingBy: 1_000)) {
                connection.resume()
            } else {
                connection.pause()
            }
        }.unref()
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.minimumRate))
        #expect(ContinuousClock.now - start >= .milliseconds(1_400), "the pauses count for nothing")
    }

    @Test(arguments: Engine.allCases)
    func `has a whole window for what is written in a pause at the end of one`(engine: Engine) throws {
        let scene = try makeScene(engine) {
            // More than the kernels take.
            $0.timeouts.minimumRate = .init(bytesPerSecond: 100_000, window: .seconds(2))
        }
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096) { self.listen($0, .data) }
        let start = ContinuousClock.now
        try scene.loop.run(until: { ContinuousClock.now > start + .seconds(1) })
        connection.pause()
        connection.fillQueue(to: 1 << 20)
        // The first window is over. Now the peer owes no input any more, and half of a window is left.
        try scene.loop.run(until: { ContinuousClock.now > start + .milliseconds(2_300) })
        self.listen(connection, .messages)
        connection.resume()
        try scene.loop.run(until: { ContinuousClock.now > start + .milliseconds(3_800) })
        #expect(scene.reason(of: connection) == nil)
        // It takes nothing at all.
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.minimumRate))
        #expect(ContinuousClock.now - start >= .milliseconds(3_900))
        withExtendedLifetime(peer) {}
    }

    @Test(arguments: combined(Engine.allCases, [false, true]))
    func `takes a little at a time and ends; one that is merely slow does not`(engine: Engine, isUnix: Bool) throws {
        let scene = try makeScene(engine) { _ in }
        func connect() throws -> (Connection, PlainClient) {
            let connection: Connection
            let peer: PlainClient
            if isUnix {
                let (mine, theirs) = try PlainClient.pair(isBlocking: false)
                (connection, peer) = (try scene.loop.adopt(connected: mine), theirs)
                scene.note(connection)
            } else {
                (connection, peer) = try scene.connect(receiveBuffer: 4_096)
            }
            connection.onMessages(lengthPrefix: .uint32, limit: 1) { _, _ in }
            connection.fillQueue(to: 1 << 20)
            return (connection, peer)
        }
        let (trickling, trickle) = try connect()
        let (slow, honest) = try connect()
        // What the kernel takes at first is no sign of the peer.
        try scene.settle()
        for connection in [trickling, slow] {
            connection.options.timeouts.minimumRate = .init(bytesPerSecond: 20_000, window: .seconds(2))
        }
        scene.loop.schedule(after: .zero, repeating: .milliseconds(20)) { _ in
            _ = try? trickle.receiveSome(max: 1)
            _ = try? honest.receiveSome(max: 4_096)
        }.unref()
        try scene.runUntilClosed(trickling)
        #expect(scene.reason(of: trickling) == .timedOut(.minimumRate))
        #expect(scene.reason(of: slow) == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a rate that is none is refused by its value`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let rates = [
            Connection.MinimumRate(bytesPerSecond: 0), .init(bytesPerSecond: 1 << 31),
            .init(bytesPerSecond: 1, window: .milliseconds(999)), .init(bytesPerSecond: 1, window: .seconds(86_401)),
        ]
        for rate in rates {
            #expect(throws: IOError.self) {
                try loop.listen(options: .connections { $0.timeouts.minimumRate = rate }) { _ in }
            }
        }
    }
}
