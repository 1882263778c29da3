import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 4: end` {
    @Test(arguments: Engine.allCases, [0, 1, 1_000, 1_000_000])
    func `FIN is told once, behind all the data`(engine: Engine, count: Int) throws {
        let diary = Diary()
        let stage = try Stage(engine) { diary.follow($0) }
        let sent = pseudoRandomBytes(count: count, seed: 4)
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send(sent)
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(diary.bytes == sent)
        #expect(diary.events == (count > 0 ? [.data(count)] : []) + [.end, .close(.peerClosed)])
    }

    @Test(arguments: Engine.allCases)
    func `after onEnd a large queue is flushed, then the connection ends itself`(engine: Engine) throws {
        let diary = Diary()
        let answer = pseudoRandomBytes(count: 8 << 20, seed: 44)
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in connection.write(answer, completion: diary.completion()) }
            // Written when the end is known, it still goes behind the rest.
            reactions.end = { connection in
                #expect(connection.bufferedByteCount > 0)
                #expect(connection.write("last", completion: diary.completion()) == .saturated)
            }
            diary.follow(connection, reactions)
        }
        let received = try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 65_536)
            try client.send("x")
            try client.halfClose()
            return try client.receiveUntilEnd()
        }
        #expect(isEqual(received, answer + Array("last".utf8)))
        #expect(
            diary.events == [
                .data(1), .end, .completion(0, .sent), .completion(1, .sent), .drain, .close(.peerClosed),
            ])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `half-open, writing goes on until end`(engine: Engine) throws {
        let diary = Diary()
        weak var loop: EventLoop?
        var writes = 0
        let stage = try Stage(engine, options: .connections { $0.allowsHalfOpen = true }) { connection in
            var reactions = Diary.Reactions()
            reactions.end = { connection in
                loop?.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
                    writes += 1
                    #expect(connection.write("\(writes),") == .flowing)
                    guard writes == 20 else { return }
                    timer.cancel()
                    connection.end()
                    #expect(connection.write("too late") == .closed)
                }
            }
            diary.follow(connection, reactions)
        }
        loop = stage.loop
        let received = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.halfClose()
            return try client.receiveUntilEnd()
        }
        #expect(String(decoding: received, as: UTF8.self) == (1...20).map { "\($0)," }.joined())
        #expect(diary.events == [.end, .close(.peerClosed)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `half-open, onDrain goes on after the end, since writing does`(engine: Engine) throws {
        let diary = Diary()
        let piece = pseudoRandomBytes(count: 1_000_003, seed: 45)
        var pieces = 0
        let options = Listener.Options.connections { $0.allowsHalfOpen = true }
        let stage = try Stage(engine, options: options) { connection in
            func saturate(_ connection: Connection) {
                repeat { pieces += 1 } while connection.write(piece) == .flowing
            }
            var reactions = Diary.Reactions()
            reactions.end = { saturate($0) }
            reactions.drain = { connection in
                if diary.count(of: .drain) == 3 { connection.end() } else { saturate(connection) }
            }
            diary.follow(connection, reactions)
        }
        let difference = try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 65_536)
            try client.halfClose()
            return try client.firstDifference(fromRepeated: piece)
        }
        #expect(difference == pieces * piece.count, "where the stream ended")
        #expect(diary.events == [.end, .drain, .drain, .drain, .close(.peerClosed)])
    }

    @Test(arguments: Engine.allCases)
    func `ended by this side, the connection goes on receiving until the peer's FIN`(engine: Engine) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            diary.follow(connection)
            connection.write("first and last")
            connection.end()
        }
        let sent = pseudoRandomBytes(count: 500_000, seed: 5)
        try stage.run { port in
            let client = try PlainClient(port: port)
            #expect(try client.receiveUntilEnd() == Array("first and last".utf8))
            try client.send(sent)
            try client.halfClose()
        }
        #expect(diary.bytes == sent)
        #expect(diary.events == [.data(sent.count), .end, .close(.localClose)])
    }

    /// Source: libuv's test shutdown_simultaneous, in our words.
    @Test(arguments: Engine.allCases)
    func `both sides shut down at once, and each has all the other's data`(engine: Engine) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                waitForFin(connection.descriptor)
                connection.write("answer")
                connection.end()
            }
            diary.follow(connection, reactions)
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("question")
            try client.halfClose()
            #expect(try client.receiveUntilEnd() == Array("answer".utf8))
        }
        #expect(diary.events == [.data(8), .end, .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `FIN that comes while paused is told after resume, behind the data before it`(engine: Engine) throws {
        let diary = Diary()
        weak var loop: EventLoop?
        var eventsWhilePaused: [Diary.Event]?
        let stage = try Stage(engine) { connection in
            diary.follow(connection)
            connection.pause()
            waitForFin(connection.descriptor)
            loop?.schedule(after: .milliseconds(20)) { _ in
                eventsWhilePaused = diary.events
                connection.resume()
            }
        }
        loop = stage.loop
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send([UInt8](repeating: 1, count: 10_000))
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(eventsWhilePaused == [])
        #expect(diary.events == [.data(10_000), .end, .close(.peerClosed)])
    }

    @Test(arguments: Engine.allCases)
    func `paused inside the last onData, the end still waits for resume`(engine: Engine) throws {
        let diary = Diary()
        weak var loop: EventLoop?
        var eventsWhilePaused: [Diary.Event]?
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                waitForFin(connection.descriptor)
                connection.pause()
                loop?.schedule(after: .milliseconds(20)) { _ in
                    eventsWhilePaused = diary.events
                    connection.resume()
                }
            }
            diary.follow(connection, reactions)
        }
        loop = stage.loop
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try client.halfClose()
            try client.expectEnd()
        }
        #expect(eventsWhilePaused == [.data(1)])
        #expect(diary.events == [.data(1), .end, .close(.peerClosed)])
    }

    @Test(arguments: Engine.allCases)
    func `closed inside the last onData, there is no onEnd`(engine: Engine) throws {
        let diary = Diary()
        let stage = try Stage(engine) { connection in
            var reactions = Diary.Reactions()
            reactions.data = { connection, _ in
                waitForFin(connection.descriptor)
                connection.close()
            }
            diary.follow(connection, reactions)
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try client.halfClose()
            _ = try client.receiveUntilOver()
        }
        #expect(diary.events == [.data(1), .close(.localClose)])
    }
}
