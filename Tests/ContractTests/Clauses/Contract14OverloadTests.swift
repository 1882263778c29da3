import CallbackServer
import Glibc
import TestSupport
import Testing

/// What an overloaded loop does to those who are not to blame for it, and to those who are.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 14: overload` {
    /// In processes of their own, whose descriptors nobody else needs.
    @Test(arguments: Engine.allCases)
    func `answers the honest, keeps the slow, and sheds who does not read`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let faults = try OverloadedLoop(engine).faults()
            #expect(faults == [], "\(faults)")
        }
    }

    /// A loop with a cap of 4 MiB and connections for which the kernel takes little.
    private func makeScene(_ engine: Engine) throws -> StepStage {
        var options = EventLoop.Options()
        options.maxQueuedBytes = 4 << 20
        return try StepStage(engine, loop: options, .connections { $0.sendBufferSize = 4_096 })
    }

    @Test(arguments: Engine.allCases)
    func `is told in a turn of its own, in order, and how many were shed`(engine: Engine) throws {
        let scene = try makeScene(engine)
        var events: [EventLoop.OverloadEvent] = []
        scene.loop.onOverload = { events.append($0) }
        // Each has more than the cap.
        for _ in 0..<3 {
            let (connection, _) = try scene.connect(receiveBuffer: 4_096)
            #expect(connection.write([UInt8](repeating: 1, count: 5 << 20)) == .closed)
            #expect(events.isEmpty, "no callback runs inside the call")
            try scene.runUntilClosed(connection)
            try scene.settle()
            #expect(events == [.began, .shed(count: 1), .ended])
            events = []
        }
        var connections: [Connection] = []
        for _ in 0..<3 { connections.append(try scene.connect(receiveBuffer: 4_096).connection) }
        // What happens in one callback is one report.
        scene.loop.schedule(after: .zero) { _ in
            for connection in connections { connection.write([UInt8](repeating: 1, count: 5 << 20)) }
        }
        try scene.loop.run(until: { events.count >= 3 })
        #expect(events == [.began, .shed(count: 3), .ended])
    }

    @Test(arguments: Engine.allCases)
    func `that is over before anybody could be told is told to nobody`(engine: Engine) throws {
        let scene = try makeScene(engine)
        var events: [EventLoop.OverloadEvent] = []
        scene.loop.onOverload = { events.append($0) }
        let (short, _) = try scene.connect(receiveBuffer: 4_096)
        scene.loop.schedule(after: .zero) { _ in
            short.fillQueue(to: 7 << 19)
            short.reset()
        }
        try scene.runUntilClosed(short)
        try scene.settle()
        #expect(events == [])
    }

    @Test(arguments: Engine.allCases)
    func `is told to a callback that is set meanwhile`(engine: Engine) throws {
        let scene = try makeScene(engine)
        let (long, _) = try scene.connect(receiveBuffer: 4_096)
        long.fillQueue(to: 7 << 19)
        try scene.settle()
        var first: [EventLoop.OverloadEvent] = []
        var second: [EventLoop.OverloadEvent] = []
        scene.loop.onOverload = { [unowned loop = scene.loop] event in
            first.append(event)
            loop.onOverload = { second.append($0) }
        }
        try scene.settle()
        #expect(first == [.began] && second == [.began])
        scene.loop.onOverload = nil
        long.reset()
        try scene.runUntilClosed(long)
        try scene.settle()
        #expect(first == [.began] && second == [.began])
    }

    @Test(arguments: Engine.allCases)
    func `a pause that began meanwhile lasts`(engine: Engine) throws {
        let scene = try makeScene(engine)
        var heard = 0
        let (held, peer) = try scene.connect(receiveBuffer: 4_096) { $0.onData = { _, bytes in heard += bytes.count } }
        let (other, _) = try scene.connect(receiveBuffer: 4_096)
        other.fillQueue(to: 100_000)
        held.fillQueue(to: 7 << 19)
        try peer.send("x")
        waitForInput(held.descriptor, atLeast: 1)
        try scene.settle()
        #expect(heard == 0)
        held.pause()
        _ = try scene.run { try peer.receive(exactly: 7 << 19) }
        try scene.settle()
        #expect(heard == 0, "still paused, with nothing queued")
        held.resume()
        try scene.loop.run(until: { heard == 1 })
    }

    @Test(arguments: Engine.allCases)
    func `a frame's callback begins it, and the next frames wait`(engine: Engine) throws {
        let scene = try makeScene(engine)
        var lines: [String] = []
        let (held, peer) = try scene.connect(receiveBuffer: 4_096) {
            $0.onLines { connection, line in
                lines.append(String(validating: line) ?? "")
                if lines.count == 1 { connection.fillQueue(to: 7 << 19) }
            }
        }
        let (other, _) = try scene.connect(receiveBuffer: 4_096)
        other.fillQueue(to: 100_000)
        try peer.send("one\ntwo\n")
        try scene.loop.run(until: { !lines.isEmpty })
        try peer.send("three\n")
        try scene.settle()
        #expect(lines == ["one"])
        _ = try scene.run { try peer.receive(exactly: 7 << 19) }
        try scene.loop.run(until: { lines.count == 3 })
        #expect(lines == ["one", "two", "three"])
        #expect(scene.reason(of: held) == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a source whose pipe waits for its target is read when both may go on`(engine: Engine) throws {
        let scene = try makeScene(engine)
        let (source, sourcePeer) = try scene.connect(receiveBuffer: 4_096)
        let (target, targetPeer) = try scene.connect(receiveBuffer: 4_096)
        // Alone, the source would have the whole limit for its share.
        let (other, _) = try scene.connect(receiveBuffer: 4_096)
        other.fillQueue(to: 100_000)
        source.pipe(to: target)
        source.fillQueue(to: (3 << 20) - 150_000)
        // These bytes fill the target's queue, and begin the overload.
        let message = pseudoRandomBytes(count: 1 << 20, seed: 14)
        var events: [EventLoop.OverloadEvent] = []
        scene.loop.onOverload = { events.append($0) }
        let sending = onThread { try sourcePeer.send(message) }
        try scene.loop.run(until: { events == [.began] })
        let first = Int(source.bytesRead)
        let received = try scene.run { try targetPeer.receive(exactly: first) }
        try scene.settle()
        #expect(target.bufferedByteCount == 0)
        #expect(Int(source.bytesRead) == first, "the target has room, and the source is above its share")
        _ = try scene.run { try sourcePeer.receive(exactly: 2 << 20) }
        let rest = try scene.run { try targetPeer.receive(exactly: message.count - first) }
        #expect(isEqual(received + rest, message))
        try sending.value()
        #expect(events == [.began, .ended])
    }
}

/// 64 slow downloads, a client that does not read, and 50 that want an answer, on a loop at its limit.
private final class OverloadedLoop {
    /// Above three quarters of it is queued by downloads and the greedy one together, and never more.
    private static let cap = 8 << 20
    private static let (downloadCount, honestCount) = (64, 50)
    private static let greed = 1_500_000
    private static let tick = Duration.milliseconds(50)
    /// Of a download, in each tick.
    private static let bytesPerTick = 1_000
    /// Far longer than an answer takes; `endurance --run overload` measures it.
    private static let mostForAnswer = Duration.seconds(3)

    private let loop: EventLoop
    private let listener: Listener
    private let served = Served()
    private var downloads: [PlainClient] = []
    private var honest: [Honest] = []
    private var mostQueued = 0

    /// What the listener's callback holds.
    private final class Served {
        var connections: [Connection] = []
        private var downloads: [Connection] = []
        var reasons: [CloseReason] = []
        var events: [EventLoop.OverloadEvent] = []

        func serve(_ connection: Connection) {
            connections.append(connection)
            connection.onData = { [unowned self] connection, bytes in
                switch bytes[0] {
                case UInt8(ascii: "d"): download(on: connection)
                case UInt8(ascii: "g"): connection.write([UInt8](repeating: 1, count: greed))
                default: connection.write(bytes)
                }
            }
            connection.onClose = { [unowned self] _, reason in reasons.append(reason) }
        }

        private func download(on connection: Connection) {
            downloads.append(connection)
            connection.write([UInt8](repeating: 1, count: 95_000))
        }

        /// From 60 to 95 kB of each download are queued as long as it goes.
        func proceed() {
            for connection in downloads where connection.bufferedByteCount < 60_000 {
                connection.write([UInt8](repeating: 1, count: 30_000))
            }
        }
    }

    /// A client that asks again once it has its answer.
    private struct Honest {
        let client: PlainClient
        var askedAt = ContinuousClock.now
        var longest = Duration.zero

        mutating func turn() throws {
            var answer: UInt8 = 0
            let isAnswered = recv(client.descriptor, &answer, 1, Int32(MSG_DONTWAIT)) == 1
            longest = max(longest, .now - askedAt)
            guard isAnswered else { return }
            try ask()
        }

        mutating func ask() throws {
            askedAt = .now
            try client.send("?")
        }
    }

    init(_ engine: Engine) throws {
        var options = EventLoop.Options()
        options.maxQueuedBytes = Self.cap
        loop = try EventLoop(engine: engine, options: options)
        let listening = Listener.Options.connections {
            $0.sendBufferSize = 4_096
            // Ends an honest client that is not read for so long.
            $0.timeouts.idle = .seconds(5)
        }
        let served = served
        listener = try loop.listen(options: listening) { served.serve($0) }
        loop.onOverload = { served.events.append($0) }
    }

    func faults() throws -> [String] {
        let dead = try PlainClient(port: listener.port, receiveBuffer: 4_096)
        try dead.send("g")
        for _ in 0..<Self.downloadCount {
            let client = try PlainClient(port: listener.port, receiveBuffer: 4_096)
            try client.send("d")
            downloads.append(client)
        }
        let served = served
        try loop.run(until: { !served.events.isEmpty })
        for _ in 0..<Self.honestCount {
            honest.append(Honest(client: try PlainClient(port: listener.port)))
            try honest[honest.count - 1].ask()
        }
        var failure: (any Error)?
        let ticking = loop.schedule(after: .zero, repeating: Self.tick) { [unowned self] _ in
            do { try turn() } catch { failure = error }
        }
        try loop.run(
            until: { served.reasons.count > 0 && served.events.count > 1 || failure != nil }, timeLimit: .seconds(60))
        ticking.cancel()
        if let failure { throw failure }
        var faults: [String] = []
        if served.reasons != [.shed] { faults.append("closed: \(served.reasons)") }
        if Array(served.events.prefix(2)) != [.began, .shed(count: 1)] { faults.append("events: \(served.events)") }
        if mostQueued > Self.cap { faults.append("\(mostQueued) bytes were queued") }
        if try dead.receiveUntilOver().ending != .reset { faults.append("the dead one was not reset") }
        let longest = honest.map(\.longest).max() ?? .zero
        if longest > Self.mostForAnswer { faults.append("an answer took \(longest)") }
        return faults
    }

    private func turn() throws {
        served.proceed()
        mostQueued = max(mostQueued, served.connections.reduce(0) { $0 + $1.bufferedByteCount })
        var input = [UInt8](repeating: 0, count: Self.bytesPerTick)
        for client in downloads { recv(client.descriptor, &input, Self.bytesPerTick, Int32(MSG_DONTWAIT)) }
        for index in honest.indices { try honest[index].turn() }
    }
}
