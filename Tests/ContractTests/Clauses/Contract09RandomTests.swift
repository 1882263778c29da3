import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 9: close from anywhere, at random` {
    /// Ends that a seed led to are told with the seed, so that it can be played again alone.
    @Test(arguments: Engine.allCases, 1...12 as ClosedRange<UInt64>)
    func `whatever handlers do to whatever object, each callback comes as promised`(
        engine: Engine, seed: UInt64
    ) throws {
        let play = try RandomPlay(engine, seed: seed)
        try play.run()
        #expect(play.overseer.faults == [], "seed \(seed)")
        for diary in play.diaries { diary.expectOrder() }
        #expect(play.diaries.count == play.acceptedCount, "seed \(seed)")
        #expect(play.acceptedCount > 0, "seed \(seed)")
    }
}

/// Clients that send, half-close and reset, and handlers that do anything to anyone, all drawn from one seed.
private final class RandomPlay {
    let overseer = Overseer()
    private(set) var diaries: [Diary] = []
    private(set) var acceptedCount = 0

    private let seed: UInt64
    private let loop: EventLoop
    private var random: SplitMix64
    private var connections: [Connection] = []
    private var timers: [EventLoop.Timer] = []
    private var listeners: [Listener] = []
    private var openListeners = 0
    /// Handlers stop acting after this many actions, so that the play ends.
    private var actionsLeft = 400

    private static let clientCount = 6
    private static let mostListeners = 5

    init(_ engine: Engine, seed: UInt64) throws {
        self.seed = seed
        random = SplitMix64(seed: seed)
        loop = try EventLoop(engine: engine)
        try listen()
    }

    /// Plays until all clients are through; then closes what is left and runs until the loop is idle.
    func run() throws {
        let port = UInt16(listeners[0].localAddress.port ?? 0)
        let clients = (0..<Self.clientCount).map { number in
            let seed = seed &* 1_000 &+ UInt64(number)
            return onThread { playClient(port: port, seed: seed) }
        }
        let end = ContinuousClock.now + .seconds(20)
        loop.schedule(after: .zero, repeating: .milliseconds(2)) { [unowned self] timer in
            let isLate = ContinuousClock.now > end
            #expect(!isLate, "seed \(seed): the clients are not through after 20 s")
            guard isLate || clients.allSatisfy(\.isFinished) else { return }
            actionsLeft = 0
            timer.cancel()
            for each in timers { each.cancel() }
            for each in connections { each.reset() }
            for each in listeners { each.close() }
        }
        try loop.run()
        #expect(openListeners == 0, "seed \(seed): each listener has its one onClose")
        for client in clients { try client.value() }
    }

    private func listen() throws(IOError) {
        var options = Listener.Options.connections {
            $0.highWaterMark = 50_000
            $0.lowWaterMark = 10_000
            $0.allowsHalfOpen = seed.isMultiple(of: 2)
            $0.timeouts.idle = .milliseconds(20)
            $0.timeouts.close = .milliseconds(50)
            // Small, so that writes are cut and queues are real.
            if seed.isMultiple(of: 3) { $0.sendBufferSize = 4_096 }
        }
        options.acceptsPerWakeup = 2
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), options: options) { [unowned self] in
            self.accept($0)
        }
        openListeners += 1
        listener.onClose = { [unowned self] _ in
            self.openListeners -= 1
            self.act()
        }
        listeners.append(listener)
    }

    private func accept(_ connection: Connection) {
        let diary = Diary(overseer)
        acceptedCount += 1
        diaries.append(diary)
        connections.append(connection)
        var reactions = Diary.Reactions()
        reactions.data = { [unowned self] connection, bytes in
            connection.write(bytes)
            self.act()
        }
        reactions.end = { [unowned self] _ in self.act() }
        reactions.drain = { [unowned self] _ in self.act() }
        reactions.timeout = { [unowned self] _, _ in
            self.act()
            return Bool.random(using: &self.random) ? .keep : .close
        }
        reactions.close = { [unowned self] connection, _ in
            self.act()
            // Now and then a closed one stays among those that are acted upon.
            if self.chance(1, of: 2) { self.connections.removeAll { $0 === connection } }
        }
        diary.follow(connection, reactions)
        overseer.callback("onConnection") { act() }
    }

    private func chance(_ count: Int, of all: Int) -> Bool {
        Int.random(in: 0..<all, using: &random) < count
    }

    /// Up to three actions on any objects.
    private func act() {
        for _ in 0..<Int.random(in: 0...3, using: &random) where actionsLeft > 0 {
            actionsLeft -= 1
            overseer.call("an action") {
                if chance(3, of: 4) { actOnConnection() } else { actOnOthers() }
            }
        }
    }

    private func actOnConnection() {
        guard let index = connections.indices.randomElement(using: &random) else { return }
        let connection = connections[index]
        let diary = diaries.randomElement(using: &random)
        switch Int.random(in: 0..<24, using: &random) {
        case 0...5: connection.write([UInt8](repeating: 1, count: Int.random(in: 0...2_000, using: &random)))
        case 6...8: connection.write([UInt8](repeating: 2, count: Int.random(in: 0...200_000, using: &random)))
        case 9...11:
            let size = Int.random(in: 0...20_000, using: &random)
            connection.write([UInt8](repeating: 3, count: size)) { [unowned self] _ in
                self.overseer.callback("completion") { self.act() }
            }
        case 12...14: connection.pause()
        case 15...18: connection.resume()
        case 19: connection.end()
        case 20: connection.close()
        case 21: connection.reset()
        case 22:
            // The last outside reference, perhaps that of the connection whose callback this is.
            connections.remove(at: index)
            connections.append(connection)
            connections.removeLast()
        default:
            connection.onDrain = diary.map { _ in
                { [unowned self] _ in self.overseer.callback("onDrain") { self.act() } }
            }
        }
    }

    private func actOnOthers() {
        switch Int.random(in: 0..<8, using: &random) {
        case 0, 1:
            let delay = Duration.milliseconds(Int.random(in: 0...3, using: &random))
            timers.append(
                loop.schedule(after: delay) { [unowned self] _ in self.overseer.callback("timer") { self.act() } })
        case 2: timers.randomElement(using: &random)?.cancel()
        case 3: timers.randomElement(using: &random)?.reschedule(after: .milliseconds(1))
        case 4: listeners.randomElement(using: &random)?.pause()
        case 5, 6: listeners.randomElement(using: &random)?.resume()
        default:
            if listeners.count < Self.mostListeners { try? listen() }
            // The first stays, or no client could come any more.
            if listeners.count > 1, chance(1, of: 2) { listeners.last?.close() }
        }
    }
}

/// A client that is never surprised: whatever the server does to it is well, as long as nothing hangs.
private func playClient(port: UInt16, seed: UInt64) {
    var random = SplitMix64(seed: seed)
    for _ in 0..<4 {
        guard let client = try? PlainClient(port: port, timeLimit: .milliseconds(100)) else { continue }
        var isOver = false
        for _ in 0..<Int.random(in: 1...10, using: &random) where !isOver {
            switch Int.random(in: 0..<10, using: &random) {
            case 0...4:
                let size = Int.random(in: 1...60_000, using: &random)
                isOver = (try? client.sendSome([UInt8](repeating: 9, count: size))) == nil
            case 5...7:
                // What the server answers, if it does: a paused one does not, for as long as its idle time-out.
                isOver = (try? client.sendSome([9])) == nil || (try? client.receiveSome()) ?? [] == []
            case 8: try? client.halfClose()
            default: isOver = true
            }
        }
        if Bool.random(using: &random) { try? client.reset() }
        client.close()
    }
}
