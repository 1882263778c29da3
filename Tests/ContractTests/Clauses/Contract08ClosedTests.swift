import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 8: after end or close` {
    enum Ending: CaseIterable {
        case end, close, reset

        func callAsFunction(_ connection: Connection) {
            switch self {
            case .end: connection.end()
            case .close: connection.close()
            case .reset: connection.reset()
            }
        }
    }

    @Test(arguments: Engine.allCases, Ending.allCases)
    func `a write is refused, sends nothing and has no completion`(engine: Engine, ending: Ending) throws {
        for queue in [0, 4 << 20] { try expectRefusal(engine, ending, queue: queue) }
    }

    private func expectRefusal(_ engine: Engine, _ ending: Ending, queue: Int) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                connection.write([UInt8](repeating: 0, count: queue))
                connection.write("before")
                ending(connection)
                #expect(connection.write([1]) == .closed)
                #expect(connection.write([1].span) == .closed)
                #expect(connection.write("1" as String) == .closed)
                #expect(connection.write("1" as StaticString) == .closed)
                #expect(connection.write([UInt8](repeating: 1, count: 100_000)) == .closed)
                #expect(connection.write([UInt8]()) == .closed)
                #expect(connection.write([1], completion: diary.completion()) == .closed)
                #expect(connection.write("1", completion: diary.completion()) == .closed)
                #expect(connection.write([1].span, completion: diary.completion()) == .closed)
            }
            diary.follow(connection, reactions)
        }
        let received = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            return try client.receiveUntilOver()
        }
        let all = [UInt8](repeating: 0, count: queue) + Array("before".utf8)
        if ending == .reset {
            #expect(received.bytes.allSatisfy { $0 == 0 })
            #expect(received.ending == .reset)
        } else {
            #expect(isEqual(received.bytes, all))
            #expect(received.ending == .end)
        }
        #expect(diary.completions.isEmpty)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a write that meets the peer's reset itself has no completion either`(engine: Engine) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                waitForHangUp(connection.descriptor)
                let large = [UInt8](repeating: 1, count: 100_000)
                // It cannot wait for the end of the callback, so it knows at once.
                #expect(connection.write(large, completion: diary.completion()) == .closed)
                #expect(connection.write("more", completion: diary.completion()) == .closed)
            }
            diary.follow(connection, reactions)
        }
        // The client is gone before it is accepted, perhaps.
        stage.mayEnd = { diary.isClosed }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try client.waitUntilAcknowledged()
            try client.reset()
        }
        #expect(diary.events == [.data(1), .close(.peerReset)])
    }

    /// Where the calls come from: while it closes, inside onClose, and after it, with the loop alive or gone.
    enum Moment: CaseIterable { case closing, inOnClose, closed, loopGone }

    @Test(arguments: Engine.allCases, Moment.allCases)
    func `every call on a closed connection does nothing`(engine: Engine, moment: Moment) throws {
        let diary = Diary()
        var kept: Connection?
        weak var released: Token?
        do {
            let stage = try Stage(engine) { connection in
                kept = connection
                var reactions = Diary.Reactions()
                reactions.data = { connection, _ in
                    connection.close()
                    if moment == .closing { callEverything(on: connection, diary) }
                }
                reactions.close = { connection, _ in
                    if moment == .inOnClose { callEverything(on: connection, diary) }
                }
                diary.follow(connection, reactions)
            }
            try stage.run { port in
                let client = try PlainClient(port: port)
                try client.send("x")
                #expect(try client.receiveUntilOver().bytes == [])
            }
            let connection = try #require(kept)
            if moment == .closed {
                callEverything(on: connection, diary)
                let token = Token()
                released = token
                setCallbacks(of: connection, capturing: token)
                var turns = 0
                stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in turns += 1 }
                try stage.run(until: { turns >= 5 })
            }
        }
        // The stage and its loop are gone.
        let connection = try #require(kept)
        if moment == .loopGone {
            callEverything(on: connection, diary)
            let token = Token()
            released = token
            setCallbacks(of: connection, capturing: token)
        }
        #expect(released == nil, "a callback that can never run is not kept")
        #expect(diary.events == [.data(1), .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `what a closed connection tells stays as it was`(engine: Engine) throws {
        var kept: Connection?
        var age: Duration?
        weak var loop: EventLoop?
        let stage = try Stage(engine) { connection in
            kept = connection
            connection.onData = { connection, bytes in
                connection.write(bytes)
                loop?.schedule(after: .milliseconds(20)) { _ in connection.close() }
            }
            connection.onClose = { connection, _ in
                age = connection.age
                // Long enough to be seen in the age, if it went on.
                let end = ContinuousClock.now + .milliseconds(3)
                while ContinuousClock.now < end {}
            }
        }
        loop = stage.loop
        let port = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("hello")
            _ = try client.receiveUntilEnd()
            return client.localPort
        }
        let connection = try #require(kept)
        var isLater = false
        stage.loop.schedule(after: .milliseconds(30)) { _ in isLater = true }
        try stage.run(until: { isLater })
        #expect(connection.age == age)
        #expect(connection.bytesRead == 5 && connection.bytesWritten == 5 && connection.bytesUnsent == 0)
        #expect(connection.bufferedByteCount == 0)
        #expect(connection.remoteAddress == (try .ipv4("127.0.0.1", port: Int(port))))
        #expect(connection.descriptor == -1 && connection.localAddress == nil)
        #expect(try #require(age) >= .milliseconds(20))
    }

    @Test(arguments: Engine.allCases, Ending.allCases)
    func `closing twice is closing once`(engine: Engine, ending: Ending) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                connection.write("answer")
                for _ in 0..<3 { ending(connection) }
            }
            reactions.close = { connection, _ in
                for again in Ending.allCases { again(connection) }
            }
            diary.follow(connection, reactions)
        }
        let received = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            return try client.receiveUntilOver()
        }
        #expect(received.ending == (ending == .reset ? .reset : .end))
        #expect(received.bytes == (ending == .reset ? [] : Array("answer".utf8)))
        #expect(diary.closeReasons == [ending == .reset ? .localReset : .localClose])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `every call on a closed listener does nothing`(engine: Engine) throws {
        var closes = 0
        var drains = 0
        weak var released: Token?
        let stage = try Stage(engine)
        let listener = stage.listener
        func callEverything() {
            listener.pause()
            listener.resume()
            listener.close()
            #expect(listener.connectionCount == 0)
            #expect((listener.localAddress.port ?? 0) > 0)
        }
        listener.onClose = { _ in
            closes += 1
            callEverything()
        }
        listener.close()
        callEverything()
        try stage.loop.run()
        callEverything()
        listener.drain(within: .zero) { report in
            drains += 1
            #expect(report.finished == 0 && report.forced == 0)
        }
        do {
            let token = Token()
            released = token
            listener.onShed = { _, _ in _ = token }
            listener.onError = { _, _ in _ = token }
            listener.onClose = { _ in _ = token }
        }
        try stage.loop.run()
        #expect(closes == 1)
        #expect(drains == 1)
        #expect(released == nil, "a callback that can never run is not kept")
        #expect(throws: PeerError.self, "nobody listens") { try PlainClient(port: stage.port) }
    }

    @Test(arguments: Engine.allCases)
    func `a cancelled timer stays silent, and may be armed again`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var fired = 0
        let timer = loop.schedule(after: .zero) { _ in fired += 1 }
        for _ in 0..<3 { timer.cancel() }
        timer.unref()
        timer.ref()
        #expect(!timer.isArmed && timer.isReferenced)
        try loop.run()
        #expect(fired == 0)
        timer.reschedule(after: .milliseconds(1))
        try loop.run()
        #expect(fired == 1)
    }

    @Test(arguments: Engine.allCases)
    func `a timer and a signal watcher outlive their loop and do nothing`(engine: Engine) throws {
        var loop: EventLoop? = try EventLoop(engine: engine)
        let timer = try #require(loop?.schedule(after: .seconds(100)) { _ in Issue.record("it fired") })
        let due = try #require(loop?.schedule(after: .zero) { _ in Issue.record("it fired") })
        let watcher = try #require(try loop?.onSignal(.harmless(to: engine)) { _ in })
        loop = nil
        for each in [timer, due] {
            each.reschedule(after: .zero)
            each.reschedule(after: .milliseconds(1))
            each.ref()
            each.unref()
            each.cancel()
            #expect(!each.isArmed)
        }
        for _ in 0..<2 { watcher.cancel() }
        watcher.ref()
        watcher.unref()
    }
}

/// Every call there is on a connection that is closed or closing; each must do nothing.
private func callEverything(on connection: Connection, _ diary: Diary) {
    let overseer = diary.overseer
    overseer.call("calls on a closed connection") {
        #expect(connection.write("too late", completion: diary.completion()) == .closed)
        #expect(connection.write([1, 2]) == .closed)
        #expect(connection.write([UInt8](repeating: 0, count: 100_000)) == .closed)
        connection.pause()
        connection.resume()
        connection.end()
        connection.close()
        connection.reset()
        var options = connection.options
        options.timeouts.idle = .milliseconds(1)
        options.highWaterMark = 5
        options.lowWaterMark = 1
        connection.options = options
        #expect(connection.bufferedByteCount == 0)
        #expect(connection.bytesWritten == 0 && connection.bytesUnsent == 0 && connection.bytesRead == 1)
        #expect(connection.descriptor == -1)
        #expect(connection.localAddress == nil)
        #expect(connection.age >= .zero)
        #expect("\(connection.remoteAddress)".hasPrefix("127.0.0.1:"))
    }
}

private func setCallbacks(of connection: Connection, capturing token: Token) {
    connection.onData = { _, _ in _ = token }
    connection.onEnd = { _ in _ = token }
    connection.onDrain = { _ in _ = token }
    connection.onTimeout = { _, _ in
        _ = token
        return .keep
    }
    connection.onClose = { _, _ in _ = token }
}
