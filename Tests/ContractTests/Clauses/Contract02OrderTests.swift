import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 2: order` {
    /// One way for a connection to end, and what its diary must then say last.
    enum Way: CaseIterable {
        case close, end, reset, peerEnds, peerResets, timeout, drainDeadline

        var reason: CloseReason {
            switch self {
            case .close, .end: .localClose
            case .reset: .localReset
            case .peerEnds: .peerClosed
            case .peerResets: .peerReset
            case .timeout: .timedOut(.read)
            case .drainDeadline: .drainDeadline
            }
        }

        func act(on connection: Connection) {
            switch self {
            case .close: connection.close()
            case .end: connection.end()
            case .reset: connection.reset()
            case .peerEnds, .peerResets, .timeout, .drainDeadline: break
            }
        }

        func act(as client: PlainClient) throws {
            switch self {
            case .peerEnds: try client.halfClose()
            case .peerResets: return try client.reset()
            case .close, .end, .reset, .timeout, .drainDeadline: break
            }
            _ = try client.receiveUntilOver()
        }
    }

    @Test(arguments: Engine.allCases, Way.allCases)
    func `onClose runs once and last, whatever the cause`(engine: Engine, way: Way) throws {
        let diary = Diary()
        let options = Listener.Options.connections {
            if way == .timeout { $0.timeouts.read = .milliseconds(20) }
        }
        let stage = try Stage(engine, options: options) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                connection.write("answer", completion: diary.completion())
                way.act(on: connection)
            }
            diary.follow(connection, reactions)
        }
        let got = Milestone("the first byte")
        stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
            guard diary.bytes.count > 0 else { return }
            timer.cancel()
            got.reach()
            if way == .drainDeadline { stage.listener.drain(within: .milliseconds(1)) { _ in } }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try got.wait()
            try way.act(as: client)
        }
        #expect(diary.closeReasons == [way.reason])
        // A reset drops what the callback has just written.
        #expect(diary.results == [way == .reset ? .failed(.localReset) : .sent])
        #expect(diary.count(of: .end) == ([.end, .peerEnds].contains(way) ? 1 : 0))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `data, drain and time-out come before the end, and the end before the close`(engine: Engine) throws {
        let diary = Diary()
        let options = Listener.Options.connections {
            $0.highWaterMark = 1_000
            $0.lowWaterMark = 0
            $0.timeouts.read = .milliseconds(10)
        }
        let stage = try Stage(engine, options: options) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                connection.write([UInt8](repeating: 1, count: 1_000), completion: diary.completion())
            }
            reactions.timeout = { _, _ in .keep }
            diary.follow(connection, reactions)
        }
        let timedOut = Milestone("a time-out")
        stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
            guard diary.count(of: .timeout(.read)) > 0 else { return }
            timer.cancel()
            timedOut.reach()
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            _ = try client.receive(exactly: 1_000)
            try timedOut.wait()
            try client.halfClose()
            try client.expectEnd()
        }
        let withoutTimeouts = diary.events.filter { $0 != .timeout(.read) }
        #expect(withoutTimeouts == [.data(1), .completion(0, .sent), .drain, .end, .close(.peerClosed)])
        #expect(diary.events.firstIndex(of: .timeout(.read))! < diary.events.firstIndex(of: .end)!)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `completions of bytes that could not be sent fail before onClose, in their order`(
        engine: Engine, byPeer: Bool
    ) throws {
        let diary = Diary()
        let count = 200
        let allWritten = Milestone("the end of the callback that writes")
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                if diary.bytes.count > 1 { return connection.reset() }
                for _ in 0..<count {
                    connection.write([UInt8](repeating: 1, count: 100_000), completion: diary.completion())
                }
                allWritten.reach()
            }
            diary.follow(connection, reactions)
        }
        try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 65_536)
            try client.send("x")
            try allWritten.wait()
            // So much that the rest of the 20 MB is queued when the connection ends.
            _ = try client.receive(exactly: 1_000_000)
            if byPeer { return try client.reset() }
            try client.send("y")
            _ = try client.receiveUntilOver()
        }
        let reason = byPeer ? CloseReason.peerReset : .localReset
        let results = diary.results
        #expect(diary.completions.map(\.number) == Array(0..<count))
        #expect(results.first == .sent && results.last == .failed(reason))
        // First those that were sent, then only failures: the peer has a prefix.
        let failed = results.drop { $0 == .sent }
        #expect(failed.allSatisfy { $0 == .failed(reason) })
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `nothing follows onClose`(engine: Engine) throws {
        let diary = Diary()
        var kept: Connection?
        let stage = try Stage(engine) { connection in
            kept = connection
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in connection.close() }
            diary.follow(connection, reactions)
        }
        stage.mayEnd = { diary.isClosed }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            _ = try client.receiveUntilOver()
        }
        let connection = try #require(kept)
        connection.write("too late", completion: diary.completion())
        connection.pause()
        connection.resume()
        connection.end()
        connection.close()
        connection.reset()
        var turns = 0
        stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in turns += 1 }
        try stage.run(until: { turns >= 10 })
        #expect(diary.events == [.data(1), .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `after onClose the callbacks and what they captured are released, though the connection is kept`(
        engine: Engine
    ) throws {
        weak var captured: Token?
        var kept: Connection?
        let stage = try Stage(engine) { connection in
            let token = Token()
            captured = token
            kept = connection
            connection.onData = { connection, _ in
                connection.write([UInt8](repeating: 1, count: 10 << 20)) { _ in _ = token }
                connection.reset()
            }
            connection.onEnd = { _ in _ = token }
            connection.onDrain = { _ in _ = token }
            connection.onTimeout = { _, _ in
                _ = token
                return .close
            }
            connection.onClose = { connection, _ in
                // Set now, they must go as well.
                connection.onData = { _, _ in _ = token }
                connection.onEnd = { _ in _ = token }
                connection.onClose = { _, _ in _ = token }
            }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            _ = try client.receiveUntilOver()
        }
        #expect(captured == nil)
        let connection = try #require(kept)
        #expect(connection.onData == nil && connection.onEnd == nil && connection.onDrain == nil)
        #expect(connection.onTimeout == nil && connection.onClose == nil)
    }

    @Test(arguments: Engine.allCases)
    func `the loop owns a connection until onClose, and no longer`(engine: Engine) throws {
        weak var connection: Connection?
        var wasAlive: [Bool] = []
        let stage = try Stage(engine) { accepted in
            connection = accepted
            accepted.onData = { _, _ in wasAlive.append(connection != nil) }
            accepted.onClose = { _, _ in wasAlive.append(connection != nil) }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(wasAlive == [true, true])
        #expect(connection == nil)
    }
}
