import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 9: close from anywhere` {
    /// The callback that acts.
    enum Place: String, CaseIterable { case data, drain, completion, timeout, end, close, timer }

    /// What it does, to itself and to another connection that has data waiting.
    enum Action: String, CaseIterable {
        case closeSelf, resetSelf, endSelf, closeOther, resetOther, endOther, pauseOther, writeToOther
        case closeListener, startListener, cancelTimers, dropReferences, resetAll
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `each action from each callback`(engine: Engine, place: Place) throws {
        for action in Action.allCases { try Scene(engine, place, action).play() }
    }

    @Test(arguments: Engine.allCases, [false, true])
    func `data of a connection that another closes in the same turn is not delivered`(
        engine: Engine, resets: Bool
    ) throws {
        var open: [Connection] = []
        var delivered = 0
        let count = 10
        let stage = try Stage(engine) { connection in
            connection.pause()
            open.append(connection)
            connection.onData = { current, _ in
                delivered += 1
                for each in open where each !== current { resets ? each.reset() : each.close() }
                current.end()
            }
        }
        let clients = try (0..<count).map { _ in try PlainClient(port: stage.port) }
        try stage.run(until: { open.count == count })
        for client in clients { try client.send("x") }
        for each in open { waitForInput(each.descriptor, atLeast: 1) }
        // All are ready in one turn.
        for each in open { each.resume() }
        try stage.run(until: { delivered > 0 && stage.listener.connectionCount == 1 })
        for client in clients { client.close() }
        try stage.run(until: { stage.listener.connectionCount == 0 })
        #expect(delivered == 1)
    }

    @Test(arguments: Engine.allCases)
    func `a listener closed inside onConnection accepts nobody else, though more are waiting`(
        engine: Engine
    ) throws {
        var accepted = 0
        var closed = 0
        weak var listener: Listener?
        let stage = try Stage(engine) { connection in
            accepted += 1
            listener?.close()
            connection.onData = { connection, bytes in connection.write(bytes) }
        }
        listener = stage.listener
        stage.listener.onClose = { _ in closed += 1 }
        let clients = try (0..<5).map { _ in try PlainClient(port: stage.port) }
        try clients[0].send("still served")
        let overs = try stage.run { _ in
            #expect(try clients[0].receive(exactly: 12) == Array("still served".utf8))
            clients[0].close()
            return try clients[1...].map { try $0.receiveUntilOver().ending }
        }
        #expect(accepted == 1 && closed == 1)
        #expect(overs == [.reset, .reset, .reset, .reset])
    }

    @Test(arguments: Engine.allCases)
    func `the last outside references may go inside their own callbacks`(engine: Engine) throws {
        final class Box {
            var loop: EventLoop?
            var listener: Listener?
            var connection: Connection?
            var timer: EventLoop.Timer?
        }
        let box = Box()
        weak var gone: (Token)?
        var events: [String] = []
        box.loop = try EventLoop(engine: engine)
        do {
            let token = Token()
            gone = token
            box.listener = try box.loop?.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
                box.connection = connection
                connection.onData = { connection, _ in
                    box.connection = nil
                    connection.onData = nil
                    events.append("data")
                    connection.close()
                    _ = token
                }
                connection.onClose = { _, _ in
                    box.loop = nil
                    events.append("close")
                }
                box.listener?.onClose = { _ in
                    box.listener = nil
                    events.append("listener")
                }
                box.listener?.close()
            }
        }
        box.timer = box.loop?.schedule(after: .zero) { _ in
            box.timer = nil
            events.append("timer")
        }
        let port = UInt16(try #require(box.listener?.localAddress.port))
        let client = try PlainClient(port: port)
        try client.send("x")
        try box.loop?.run()
        try client.expectEnd()
        #expect(events.sorted() == ["close", "data", "listener", "timer"])
        #expect(box.loop == nil && box.listener == nil && box.connection == nil && box.timer == nil)
        #expect(gone == nil)
    }

    @Test(arguments: Engine.allCases)
    func `everything is reset and closed inside one timer`(engine: Engine) throws {
        let count = 50
        var open: [Connection] = []
        var diaries: [Diary] = []
        let overseer = Overseer()
        let stage = try Stage(engine) { connection in
            let diary = Diary(overseer)
            diaries.append(diary)
            open.append(connection)
            diary.follow(connection)
            connection.write([UInt8](repeating: 1, count: 8 << 20), completion: diary.completion())
        }
        let clients = try (0..<count).map { _ in try PlainClient(port: stage.port) }
        for client in clients { try client.send("waiting") }
        let timers = (0..<10).map { _ in
            stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in
                overseer.callback("timer") {}
            }
        }
        stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
            guard open.count == count else { return }
            timer.cancel()
            for each in timers { each.cancel() }
            for each in open { each.reset() }
            open = []
            stage.listener.close()
        }
        try stage.loop.run()
        for diary in diaries {
            #expect(diary.closeReasons == [.localReset])
            #expect(diary.results == [.failed(.localReset)])
            diary.expectOrder()
        }
        #expect(diaries.count == count)
        withExtendedLifetime(clients) {}
    }

    @Test(arguments: Engine.allCases)
    func `listeners are started within callbacks, and serve`(engine: Engine) throws {
        weak var loop: EventLoop?
        var depth = 0
        /// Each connection makes the next listener, tells its port and closes; the third echoes.
        func serve(_ connection: Connection) {
            depth += 1
            guard depth < 3 else { return echo(connection) }
            do throws(IOError) {
                let next = try loop?.listen(on: .ipv4("127.0.0.1", port: 0), onConnection: serve)
                connection.write("\(next?.localAddress.port ?? 0)\n")
                connection.onClose = { _, _ in
                    if depth == 3 { next?.close() }
                }
            } catch {
                Issue.record(error)
            }
        }
        let stage = try Stage(engine, serve: serve)
        loop = stage.loop
        try stage.run { port in
            var clients = [try PlainClient(port: port)]
            for _ in 0..<2 {
                let next = try #require(UInt16(try clients.last!.receiveLine()))
                clients.append(try PlainClient(port: next))
            }
            try clients[2].echoExactly(100_000)
        }
    }
}

/// Two connections with data waiting, and one action inside one kind of callback of the first that gets there.
private final class Scene {
    private let place: `Contract 9: close from anywhere`.Place
    private let action: `Contract 9: close from anywhere`.Action
    private let stage: Stage
    private let overseer = Overseer()
    private var open: [Connection] = []
    private var diaries: [Diary] = []
    private var timers: [EventLoop.Timer] = []
    private var hasActed = false
    private let acted = Milestone("the action")
    private var extra: Listener?

    init(
        _ engine: Engine, _ place: `Contract 9: close from anywhere`.Place,
        _ action: `Contract 9: close from anywhere`.Action
    ) throws {
        self.place = place
        self.action = action
        let options = Listener.Options.connections {
            $0.highWaterMark = 1
            $0.lowWaterMark = 0
            $0.timeouts.read = .milliseconds(5)
        }
        // The listener keeps its closure until it is closed: not `self`, or the two would never go.
        var serve: (Connection) -> Void = { _ in }
        stage = try Stage(engine, options: options) { serve($0) }
        serve = { [unowned self] in self.follow($0) }
    }

    private func follow(_ connection: Connection) {
        let diary = Diary(overseer)
        diaries.append(diary)
        open.append(connection)
        var reactions = Diary.Reactions()
        reactions.data = { [unowned self] connection, _ in
            connection.write(
                "answer", completion: diary.completion { [unowned self] in self.act(.completion, on: connection) })
            self.act(.data, on: connection)
        }
        reactions.drain = { [unowned self] in self.act(.drain, on: $0) }
        reactions.end = { [unowned self] in self.act(.end, on: $0) }
        reactions.timeout = { [unowned self] connection, _ in
            self.act(.timeout, on: connection)
            return .keep
        }
        reactions.close = { [unowned self] connection, _ in self.act(.close, on: connection) }
        diary.follow(connection, reactions)
    }

    func play() throws {
        let clients = try (0..<2).map { _ in try PlainClient(port: stage.port) }
        try stage.run(until: { self.open.count == 2 })
        // A time-out may have acted already, and a reset makes this fail.
        for client in clients { try? client.send("x") }
        if place == .timer {
            timers.append(
                stage.loop.schedule(after: .milliseconds(1)) { [unowned self] _ in self.act(.timer, on: self.open[0]) })
        }
        timers.append(stage.loop.schedule(after: .seconds(1_000)) { _ in })
        try stage.run { [acted, place] _ in
            if place != .end, place != .close { try acted.wait() }
            for client in clients {
                // After a reset these fail, and that is well.
                try? client.halfClose()
                _ = try? client.receiveUntilOver()
                client.close()
            }
        }
        for timer in timers { timer.cancel() }
        extra?.close()
        try stage.run(until: { self.stage.listener.connectionCount == 0 })
        #expect(hasActed, "\(place), \(action)")
        #expect(diaries.count == 2)
        for diary in diaries { diary.expectOrder() }
        stage.listener.close()
        try stage.loop.run()
    }

    private func act(_ here: `Contract 9: close from anywhere`.Place, on connection: Connection) {
        guard here == place, !hasActed else { return }
        hasActed = true
        defer { acted.reach() }
        let other = open.first { $0 !== connection }
        overseer.call("\(action) in \(place)") {
            switch action {
            case .closeSelf: connection.close()
            case .resetSelf: connection.reset()
            case .endSelf: connection.end()
            case .closeOther: other?.close()
            case .resetOther: other?.reset()
            case .endOther: other?.end()
            case .pauseOther:
                other?.pause()
                timers.append(stage.loop.schedule(after: .milliseconds(2)) { _ in other?.resume() })
            case .writeToOther: other?.write([UInt8](repeating: 1, count: 1 << 20))
            case .closeListener: stage.listener.close()
            case .startListener:
                extra = try? stage.loop.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in }
                #expect(extra != nil)
            case .cancelTimers: for timer in timers { timer.cancel() }
            case .dropReferences: open = []
            case .resetAll: for each in open { each.reset() }
            }
        }
    }
}
