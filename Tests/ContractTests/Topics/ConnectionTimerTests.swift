import CallbackServer
import TestSupport
import Testing

/// Timers that belong to a connection, and what leads from an object to its loop.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A connection's timer` {
    private final class Token {}

    @Test(arguments: Engine.allCases)
    func `fires once, or again and again, with the connection it belongs to`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, _) = try scene.connect()
        var heard: [String] = []
        let once = connection.schedule(after: .milliseconds(1)) { owner, _ in
            heard.append(owner == connection ? "once" : "other")
        }
        let again = connection.schedule(after: .milliseconds(5), repeating: .milliseconds(2)) { owner, timer in
            heard.append(owner == connection ? "again" : "other")
            if heard.count == 4 { timer.cancel() }
        }
        try scene.loop.run(until: { !once.isArmed && !again.isArmed })
        #expect(heard == ["once", "again", "again", "again"])
        once.reschedule(after: .zero)
        try scene.settle()
        #expect(heard.count == 5)
        #expect(once.loop === scene.loop && connection.loop === scene.loop && scene.listener.loop === scene.loop)
    }

    /// How a connection can come to its end.
    enum Ending: CaseIterable { case close, flushing, reset, peerCloses, peerResets, timedOut, shutDown }

    @Test(arguments: combined(Engine.allCases, Ending.allCases))
    func `ends with it, and lets go of what it captured`(engine: Engine, ending: Ending) throws {
        var scene: StepStage? = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        var (connection, peer): (Connection?, PlainClient?) = try scene!.connect(receiveBuffer: 4_096)
        weak var token: Token?
        var fired = 0
        let timers: [EventLoop.Timer]
        do {
            let captured = Token()
            token = captured
            timers = [Duration.zero, .milliseconds(1), .seconds(3_600)].map { delay in
                connection!.schedule(after: delay, repeating: .seconds(3_600)) { _, _ in
                    withExtendedLifetime(captured) { fired += 1 }
                }
            }
        }
        try scene!.loop.run(until: { fired == 2 })
        #expect(token != nil)
        switch ending {
        case .close: connection!.close()
        case .flushing:
            connection!.fillQueue(to: 1 << 20)
            connection!.close()
            #expect(token == nil, "nothing but onClose follows")
            connection!.reset()
        case .reset: connection!.reset()
        case .peerCloses: try peer!.halfClose()
        case .peerResets: try peer!.reset()
        case .timedOut: connection!.options.timeouts.idle = .milliseconds(1)
        case .shutDown: break
        }
        if ending != .shutDown { try scene!.runUntilClosed(connection!) }
        if ending == .shutDown { scene = nil }
        #expect(token == nil)
        for timer in timers {
            #expect(!timer.isArmed)
            timer.reschedule(after: .zero)
            #expect(!timer.isArmed, "over for good")
        }
        if let connection, let scene {
            let late = connection.schedule(after: .zero) { _, _ in fired += 1 }
            #expect(!late.isArmed)
            late.reschedule(after: .zero)
            try scene.settle()
        }
        #expect(fired == 2)
        connection = nil
        peer = nil
    }

    @Test(arguments: Engine.allCases)
    func `at rest when its connection closes cannot be armed any more`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, _) = try scene.connect()
        var fired = 0
        let cancelled = connection.schedule(after: .seconds(3_600)) { _, _ in fired += 1 }
        cancelled.cancel()
        let once = connection.schedule(after: .zero) { _, _ in fired += 1 }
        try scene.loop.run(until: { fired == 1 })
        connection.reset()
        for timer in [cancelled, once] { timer.reschedule(after: .zero) }
        try scene.runUntilClosed(connection)
        for timer in [cancelled, once] {
            timer.reschedule(after: .zero)
            #expect(!timer.isArmed)
        }
        try scene.settle()
        #expect(fired == 1)
    }

    @Test(arguments: Engine.allCases)
    func `whose body is the loop's last owner lets go of it as it ends`(engine: Engine) throws {
        let (mine, peer) = try PlainClient.pair()
        var owner: EventLoop? = try EventLoop(engine: engine)
        weak let loop = owner
        var connection: Connection? = try owner?.adopt(connected: mine)
        weak let closed = connection
        connection?.schedule(after: .seconds(3_600)) { [owner] _, _ in withExtendedLifetime(owner) {} }
        try owner?.run(.noWait)
        owner = nil
        #expect(loop != nil)
        connection?.reset()
        #expect(loop == nil)
        connection = nil
        // A driver that closed behind its loop would never tell, and keep it.
        #expect(closed == nil)
        try peer.expectEnd()
    }

    @Test(arguments: Engine.allCases)
    func `may close its own connection, and goes on after end`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        var fired = 0
        connection.end()
        connection.schedule(after: .zero, repeating: .milliseconds(1)) { connection, _ in
            fired += 1
            if fired == 3 { connection.close() }
        }
        try scene.runUntilClosed(connection)
        try scene.settle()
        #expect(fired == 3)
        #expect(scene.reason(of: connection) == .localClose)
        withExtendedLifetime(peer) {}
    }

    @Test(arguments: Engine.allCases)
    func `one for each message leaves nothing behind`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, _) = try scene.connect()
        weak var first: EventLoop.Timer?
        var fired = 0
        for index in 0..<1_000 {
            let timer = connection.schedule(after: .zero) { _, _ in fired += 1 }
            if index == 0 { first = timer }
        }
        #expect(first != nil)
        try scene.loop.run(until: { fired == 1_000 })
        try scene.settle()
        #expect(first == nil)
    }
}
