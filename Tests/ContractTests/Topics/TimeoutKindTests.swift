import CallbackServer
import Glibc
import TestSupport
import Testing

/// `Connection.Timeouts`, of which all connections of a loop share one structure.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Time-outs of each kind` {
    static let limit = Duration.milliseconds(60)
    static let kinds = [TimeoutKind.idle, .read, .write, .saturated]

    static func set(_ kind: TimeoutKind, of connection: Connection, to time: Duration?) {
        switch kind {
        case .idle: connection.options.timeouts.idle = time
        case .read: connection.options.timeouts.read = time
        case .write: connection.options.timeouts.write = time
        case .saturated: connection.options.timeouts.saturated = time
        case .minimumRate:
            connection.options.timeouts.minimumRate = time.map { .init(bytesPerSecond: 1, window: $0) }
        case .connect: connection.options.timeouts.connect = time
        case .close: if let time { connection.options.timeouts.close = time }
        }
    }

    /// A connection whose queue does not move, where that is what the time-out is about.
    private func connect(_ scene: StepStage, for kind: TimeoutKind) throws -> (
        connection: Connection, peer: PlainClient
    ) {
        let pair = try scene.connect(receiveBuffer: 4_096)
        if kind == .write || kind == .saturated || kind == .close { pair.connection.fillQueue(to: 1 << 20) }
        try scene.settle()
        return pair
    }

    @Test(arguments: Engine.allCases, kinds)
    func `pass once, not early, and close`(engine: Engine, kind: TimeoutKind) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, peer) = try connect(scene, for: kind)
        var told: [TimeoutKind] = []
        var at = Duration.zero
        connection.onTimeout = { _, kind in
            told.append(kind)
            at = monotonicTime()
            return .close
        }
        let start = monotonicTime()
        Self.set(kind, of: connection, to: Self.limit)
        try scene.runUntilClosed(connection)
        #expect(told == [kind])
        #expect(at - start >= Self.limit)
        #expect(scene.reason(of: connection) == .timedOut(kind))
        // Unsent bytes and FIN would look like a whole answer.
        #expect(try peer.receiveUntilOver().ending == (kind == .write || kind == .saturated ? .reset : .end))
    }

    @Test(arguments: Engine.allCases)
    func `of close resets what does not flush, and is not early`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, peer) = try connect(scene, for: .close)
        connection.options.timeouts.close = Self.limit
        connection.onTimeout = { _, _ in
            Issue.record("a close is not asked whether it keeps")
            return .keep
        }
        let start = monotonicTime()
        connection.close()
        try scene.runUntilClosed(connection)
        #expect(monotonicTime() - start >= Self.limit)
        #expect(scene.reason(of: connection) == .timedOut(.close))
        #expect(try peer.receiveUntilOver().ending == .reset)
    }

    @Test(arguments: Engine.allCases, kinds)
    func `that are kept count anew, each time in full`(engine: Engine, kind: TimeoutKind) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, _) = try connect(scene, for: kind)
        var times = [monotonicTime()]
        connection.onTimeout = { _, told in
            #expect(told == kind)
            times.append(monotonicTime())
            return times.count < 4 ? .keep : .close
        }
        Self.set(kind, of: connection, to: Self.limit)
        try scene.runUntilClosed(connection)
        #expect(times.count == 4)
        #expect(zip(times, times.dropFirst()).allSatisfy { $1 - $0 >= Self.limit }, "\(times)")
    }

    @Test(arguments: Engine.allCases, combined(kinds, kinds).filter { $0.0 != $0.1 })
    func `that are kept do not put off another kind`(
        engine: Engine, kinds: (kept: TimeoutKind, other: TimeoutKind)
    ) throws {
        let (kept, other) = kinds
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, _) = try connect(scene, for: .write)
        var told: [TimeoutKind] = []
        connection.onTimeout = { _, kind in
            told.append(kind)
            return kind == kept ? .keep : .close
        }
        let start = monotonicTime()
        Self.set(kept, of: connection, to: .milliseconds(40))
        Self.set(other, of: connection, to: .milliseconds(150))
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(other))
        #expect(told.last == other && told.count > 1)
        #expect(monotonicTime() - start >= .milliseconds(150))
    }

    @Test(arguments: Engine.allCases, combined(kinds, [true, false]))
    func `set later count from then`(engine: Engine, how: (kind: TimeoutKind, besides: Bool)) throws {
        let (kind, besides) = how
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, _) = try connect(scene, for: kind)
        // Activity may be noted already, for another time-out.
        if besides { Self.set(kind == .idle ? .read : .idle, of: connection, to: .seconds(60)) }
        var isOld = false
        scene.loop.schedule(after: .milliseconds(150)) { _ in isOld = true }
        try scene.loop.run(until: { isOld })
        let start = monotonicTime()
        Self.set(kind, of: connection, to: .milliseconds(100))
        try scene.runUntilClosed(connection)
        #expect(monotonicTime() - start >= .milliseconds(100))
        #expect(scene.reason(of: connection) == .timedOut(kind))
    }

    @Test(arguments: Engine.allCases)
    func `that are not changed go on, though other options are`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, _) = try scene.connect()
        connection.options.timeouts.idle = .milliseconds(100)
        let changing = scene.loop.schedule(after: .zero, repeating: .milliseconds(10)) { timer in
            connection.options.highWaterMark += 1
        }
        try scene.runUntilClosed(connection)
        changing.cancel()
        #expect(scene.reason(of: connection) == .timedOut(.idle))
    }

    @Test(arguments: Engine.allCases)
    func `of reading stop while paused, and count anew from resume`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, _) = try scene.connect()
        var told: [Duration] = []
        connection.onTimeout = { _, _ in
            told.append(monotonicTime())
            return .close
        }
        connection.options.timeouts.read = Self.limit
        connection.pause()
        var resumedAt = Duration.zero
        scene.loop.schedule(after: .milliseconds(200)) { _ in
            #expect(told == [])
            resumedAt = monotonicTime()
            connection.resume()
        }
        try scene.runUntilClosed(connection)
        #expect(told.count == 1)
        #expect(told.allSatisfy { $0 - resumedAt >= Self.limit })
    }

    @Test(arguments: Engine.allCases)
    func `of idling are not put off by pausing and resuming`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, _) = try scene.connect()
        connection.options.timeouts.idle = .milliseconds(100)
        let toggling = scene.loop.schedule(after: .zero, repeating: .milliseconds(10)) { _ in
            connection.pause()
            connection.resume()
        }
        try scene.runUntilClosed(connection)
        toggling.cancel()
        #expect(scene.reason(of: connection) == .timedOut(.idle))
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `of idling are moved by what comes and by what leaves`(engine: Engine, reads: Bool) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        let limit = Duration.milliseconds(120)
        var last = monotonicTime()
        var at = Duration.zero
        connection.onTimeout = { _, _ in
            at = monotonicTime()
            return .close
        }
        connection.onData = { _, _ in last = monotonicTime() }
        connection.options.timeouts.idle = limit
        var rounds = 0
        scene.loop.schedule(after: .milliseconds(20), repeating: .milliseconds(20)) { timer in
            rounds += 1
            if rounds == 20 { timer.cancel() }
            if reads {
                // A peer that is played on this thread; the loop reads it in its next turn.
                _ = try? peer.sendSome([1])
            } else {
                last = monotonicTime()
                connection.write("x")
            }
        }
        try scene.runUntilClosed(connection)
        // Unless the machine stood still for longer than the limit, all the rounds were played.
        #expect(rounds == 20 || at - last >= limit)
        #expect(at - last >= limit)
        peer.close()
    }

    @Test(arguments: Engine.allCases)
    func `of writing pass although the user goes on writing behind the queue`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, _) = try connect(scene, for: .write)
        connection.options.timeouts.write = .milliseconds(100)
        let writing = scene.loop.schedule(after: .zero, repeating: .milliseconds(5)) { _ in
            connection.write("more")
            connection.write([UInt8](repeating: 1, count: 20_000))
        }
        try scene.runUntilClosed(connection)
        writing.cancel()
        #expect(scene.reason(of: connection) == .timedOut(.write))
    }

    @Test(arguments: Engine.allCases)
    func `of writing do not pass while a slow reader takes some, also of one long write`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        connection.options.timeouts.write = .seconds(1)
        let count = 8 << 20
        connection.write([UInt8](repeating: 1, count: count))
        var seconds = 0
        // A piece at a time, for longer than the limit.
        let reading = scene.loop.schedule(after: .zero, repeating: .milliseconds(50)) { _ in
            seconds += 1
            _ = try? peer.receiveSome(max: 64 << 10)
        }
        try scene.loop.run(until: { seconds >= 50 })
        reading.cancel()
        #expect(scene.reason(of: connection) == nil)
        connection.reset()
        try scene.runUntilClosed(connection)
    }
}
