import CallbackServer
import TestSupport
import Testing

/// What `Listener.drain` says.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Draining` {
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
}
