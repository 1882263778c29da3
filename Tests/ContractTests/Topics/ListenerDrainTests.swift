import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Draining a listener` {
    enum Ending: CaseIterable {
        case none, close, end, endWithNothingQueued, peersEnd
    }

    @Test(arguments: Engine.allCases, Ending.allCases)
    func `whoever is not through at the deadline is closed and told so, also in the middle of an end`(
        engine: Engine, ending: Ending
    ) throws {
        let diary = Diary()
        let milestone = Milestone("the end has begun")
        let stage = try Stage(engine, options: .connections { $0.sendBufferSize = 16_384 }) { connection in
            diary.follow(connection, .init(end: { _ in milestone.reach() }))
            // More than a peer that does not read has room for.
            if ending != .endWithNothingQueued { connection.write([UInt8](repeating: 1, count: 16 << 20)) }
            switch ending {
            case .none, .peersEnd: break
            case .close: connection.close()
            case .end, .endWithNothingQueued: connection.end()
            }
            if ending != .peersEnd { milestone.reach() }
        }
        let client = try PlainClient(port: stage.port, receiveBuffer: 4_096)
        if ending == .peersEnd { try client.halfClose() }
        try stage.run(until: { milestone.isReached })
        var report: DrainReport?
        stage.listener.drain(within: .milliseconds(1)) { report = $0 }
        try stage.run(until: { report != nil })
        #expect(report?.forced == 1)
        #expect(report?.finished == 0)
        #expect(diary.closeReasons == [.drainDeadline])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a drain that is asked for when the loop has gone is let go`(engine: Engine) throws {
        weak var released: Token?
        do {
            var loop: EventLoop? = try EventLoop(engine: engine)
            let listener = try #require(try loop?.listen { _ in })
            loop = nil
            let token = Token()
            released = token
            listener.drain(within: .seconds(1)) { _ in _ = token }
        }
        #expect(released == nil)
    }

    @Test(arguments: Engine.allCases)
    func `reports how many closed for which cause, and forces the rest at the deadline`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let pairs = try (0..<9).map { _ in try scene.connect(receiveBuffer: 4_096) }
        let (connections, peers) = (pairs.map(\.connection), pairs.map(\.peer))
        connections[4].options.timeouts.idle = .milliseconds(20)
        // Ended, but its peer never finishes; closing, but its peer never reads; and one at rest.
        connections[6].end()
        connections[7].fillQueue(to: 1 << 20)
        connections[7].options.timeouts.close = .seconds(60)
        connections[7].close()
        var reports: [DrainReport] = []
        let start = monotonicTime()
        scene.listener.drain(within: .milliseconds(500)) { reports.append($0) }
        #expect(reports == [], "no callback runs inside a call")
        try peers[0].halfClose()
        try peers[1].halfClose()
        try peers[2].reset()
        connections[3].close()
        connections[5].reset()
        try scene.loop.run(until: { !reports.isEmpty })
        #expect(monotonicTime() - start >= .milliseconds(500))
        #expect(
            reports.first?.reasons == [
                .peerClosed: 2, .peerReset: 1, .localClose: 1, .localReset: 1, .timedOut(.idle): 1, .drainDeadline: 3,
            ])
        #expect(reports.first?.forced == 4)
        #expect(reports.first?.finished == 4)
        #expect(reports.first?.broken == 1)
        #expect(connections[6...].allSatisfy { scene.reason(of: $0) == .drainDeadline })
        #expect(try peers[7].receiveUntilOver().ending == .reset, "unsent bytes and FIN would look like a whole answer")
        try peers[8].expectReset()
        // Nothing is left that keeps the loop.
        try scene.loop.run()
        #expect(reports.count == 1)
    }

    @Test(arguments: Engine.allCases)
    func `is done before the deadline when the last connection has finished`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (_, one) = try scene.connect { echo($0) }
        let (_, two) = try scene.connect { echo($0) }
        var reports: [DrainReport] = []
        var order: [String] = []
        scene.listener.onClose = { _ in order.append("listener") }
        scene.listener.drain(within: .seconds(600)) {
            reports.append($0)
            order.append("done")
        }
        try scene.run {
            // Served to the end.
            for peer in [one, two] {
                try peer.echoExactly(100_000)
                try peer.halfClose()
                try peer.expectEnd()
            }
        }
        // The deadline's timer keeps nothing.
        try scene.loop.run()
        #expect(order == ["listener", "done"])
        #expect(reports.map(\.reasons) == [[.peerClosed: 2]])
        #expect(reports.map(\.forced) == [0])
    }

    @Test(arguments: Engine.allCases)
    func `a second drain replaces the first one's deadline and callback, and goes on counting`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let pairs = try (0..<3).map { _ in try scene.connect() }
        var first = 0
        var reports: [DrainReport] = []
        weak var weakToken: Token?
        do {
            let token = Token()
            weakToken = token
            scene.listener.drain(within: .seconds(600)) { _ in
                _ = token
                first += 1
            }
        }
        try pairs[0].peer.halfClose()
        try scene.runUntilClosed(pairs[0].connection)
        scene.listener.drain(within: .milliseconds(30)) { reports.append($0) }
        #expect(weakToken == nil, "what was replaced is let go")
        try scene.loop.run()
        #expect(first == 0)
        #expect(reports.map(\.reasons) == [[.peerClosed: 1, .drainDeadline: 2]])
    }

    @Test(arguments: Engine.allCases)
    func `with nobody there is done in the next turn, and again for each drain`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listen { _ in }
        var reports: [DrainReport] = []
        listener.drain(within: .seconds(600)) { report in
            reports.append(report)
            // From its own callback, on a listener that is closed.
            listener.drain(within: .seconds(600)) { reports.append($0) }
            #expect(reports.count == 1, "not inside the call")
        }
        #expect(reports == [])
        try loop.run()
        #expect(reports.map(\.reasons) == [[:], [:]])
    }

    @Test(arguments: Engine.allCases)
    func `beyond maxConnections, refused clients are no part of it`(engine: Engine) throws {
        var options = Listener.Options()
        options.maxConnections = 1
        options.beyondMaxConnections = .refuse
        let scene = try StepStage(engine, options)
        var shed = 0
        scene.listener.onShed = { shed += $1.count }
        let (connection, peer) = try scene.connect()
        let refused = try PlainClient(port: scene.listener.port)
        try scene.loop.run(until: { shed == 1 })
        _ = try refused.receiveUntilOver()
        var reports: [DrainReport] = []
        scene.listener.drain(within: .seconds(600)) { reports.append($0) }
        connection.reset()
        try scene.loop.run()
        #expect(reports.map(\.reasons) == [[.localReset: 1]])
        try peer.expectReset()
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `a loop let go meanwhile calls nobody and keeps nothing`(engine: Engine, isEmpty: Bool) throws {
        var called = 0
        weak var weakListener: Listener?
        weak var weakToken: Token?
        var peers: [PlainClient] = []
        do {
            let scene = try StepStage(engine)
            if !isEmpty { peers.append(try scene.connect().peer) }
            weakListener = scene.listener
            let token = Token()
            weakToken = token
            let loop = scene.loop
            let listener = scene.listener
            func drain() {
                listener.drain(within: .seconds(600)) { _ in
                    _ = token
                    called += 1
                }
            }
            // With nobody there it would be done in the next turn.
            if isEmpty {
                drain()
            } else {
                loop.schedule(after: .milliseconds(1)) { _ in
                    drain()
                    loop.stop()
                }
                try loop.run()
                try scene.settle()
            }
        }
        #expect(called == 0)
        #expect(weakListener == nil)
        #expect(weakToken == nil)
        for peer in peers { _ = try peer.receiveUntilOver() }
    }

    @Test(arguments: Engine.allCases)
    func `a listener that outlives its loop is not drained, and keeps nothing`(engine: Engine) throws {
        weak var weakListener: Listener?
        do {
            var loop: EventLoop? = try EventLoop(engine: engine)
            let listener = try #require(try loop?.listen { _ in })
            weakListener = listener
            loop = nil
            listener.drain(within: .seconds(1)) { _ in Issue.record("callbacks run only inside run") }
        }
        #expect(weakListener == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a loop that is let go before a drain is told lets go of what the drain would call`(engine: Engine) throws {
        weak var weakToken: Token?
        do {
            let loop = try EventLoop(engine: engine)
            let token = Token()
            weakToken = token
            let listener = try loop.listen { _ in }
            listener.close()
            try loop.run()
            // A cycle until the callback is let go.
            listener.drain(within: .seconds(600)) { _ in Issue.record("told of \(token) and \(listener)") }
        }
        #expect(weakToken == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a timer that a loop held when it was let go releases what it captured`(engine: Engine) throws {
        weak var weakToken: Token?
        var kept: EventLoop.Timer?
        do {
            let loop = try EventLoop(engine: engine)
            let token = Token()
            weakToken = token
            kept = loop.schedule(after: .seconds(600)) { _ in _ = token }
        }
        #expect(weakToken == nil)
        #expect(kept?.isArmed == false)
    }
}
