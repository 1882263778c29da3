import CallbackServer
import Glibc
import TestSupport
import Testing

/// What is asked of a connection before it is open.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting: before onOpen` {
    @Test(arguments: Engine.allCases, Place.allCases)
    func `writes are kept, sent in their order, and followed by those of onOpen`(
        engine: Engine, place: Place
    ) throws {
        for sizes in [[5], [1, 20_000, 3, 100_000, 7], [10 << 20]] {
            try writeBeforeOpening(engine, place, sizes)
        }
    }

    private func writeBeforeOpening(_ engine: Engine, _ place: Place, _ sizes: [Int]) throws {
        let server = try PlainServer(place)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        var expected: [UInt8] = []
        for (seed, size) in sizes.enumerated() {
            let piece = pseudoRandomBytes(count: size, seed: UInt64(seed))
            expected += piece
            diary.overseer.call("write") { _ = connection.write(piece, completion: diary.completion()) }
        }
        // A Unix socket connects at once, and its kernel has taken some of them.
        if !place.isUnix { #expect(connection.bufferedByteCount == expected.count) }
        diary.reactions.open = { connection in
            connection.write("and this", completion: diary.completion())
            connection.end()
        }
        expected += Array("and this".utf8)
        #expect(isEqual(try loop.run(diary, peer), expected))
        #expect(diary.results == Array(repeating: .sent, count: sizes.count + 1))
        #expect(diary.closeReason == .localClose)
        #expect(connection.bytesWritten == UInt64(expected.count) && connection.bytesUnsent == 0)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `onDrain comes once, after onOpen`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let options = EventLoop.ConnectOptions.with {
            $0.connection.highWaterMark = 1_000
            $0.connection.lowWaterMark = 0
        }
        let connection = try diary.follow { try loop.connect(to: server.address, options: options) }
        let status = connection.write([UInt8](repeating: 1, count: 2_000))
        // A Unix socket is connected at once, and its kernel has taken them.
        #expect(status == (place.isUnix ? .flowing : .saturated))
        diary.reactions.drain = { $0.end() }
        if place.isUnix { diary.reactions.open = { $0.end() } }
        #expect(try loop.run(diary, peer).count == 2_000)
        #expect(diary.events.prefix(2) == (place.isUnix ? [.open, .end] : [.open, .drain]))
        #expect(diary.events.count { $0 == .drain } == (place.isUnix ? 0 : 1))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `writes of a callback are kept as well`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        loop.schedule(after: .zero) { _ in
            do {
                let connection = try diary.follow { try loop.connect(to: server.address) }
                for word in ["one ", "two ", "three"] {
                    diary.overseer.call("write") { _ = connection.write(word, completion: diary.completion()) }
                }
                connection.end()
            } catch {
                Issue.record(error)
            }
        }
        #expect(try loop.run(diary, peer) == Array("one two three".utf8))
        #expect(diary.results == [.sent, .sent, .sent])
        #expect(diary.events.first == .open)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `an end sends what was written, then FIN, and hears the answer`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let peer = server.serve(answeringAtEnd)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        connection.write("question", completion: diary.completion())
        connection.end()
        #expect(connection.write("late") == .closed)
        #expect(try loop.run(diary, peer) == Array("question".utf8))
        #expect(diary.events == [.open, .completion(0, .sent), .data(6), .end, .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a close without anything written closes at once`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        let name = try connection.kernelName
        diary.overseer.call("close") {
            connection.close()
            connection.close()
        }
        #expect(connection.write("late") == .closed && connection.descriptor == -1)
        try loop.run()
        #expect(diary.events == [.close(.localClose)])
        #expect(try !isOpen(kernelName: name))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a close after writes sends them first`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        let payload = pseudoRandomBytes(count: 300_000)
        connection.write(payload, completion: diary.completion())
        connection.write("", completion: diary.completion())
        connection.close()
        #expect(connection.write("late") == .closed)
        #expect(isEqual(try loop.run(diary, peer), payload))
        #expect(diary.events == [.completion(0, .sent), .completion(1, .sent), .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a reset drops everything, and nothing opens`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let peer = server.serve { try $0.receiveUntilOver().bytes.count }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        let name = try connection.kernelName
        connection.write("dropped", completion: diary.completion())
        diary.overseer.call("reset") {
            connection.reset()
            connection.close()
            connection.reset()
        }
        try loop.run()
        // The kernel of a Unix socket had them already.
        #expect(diary.results == [place.isUnix ? .sent : .failed(.localReset)])
        #expect(connection.bytesUnsent == (place.isUnix ? 0 : 7))
        #expect(diary.closeReason == .localReset && !diary.isOpen)
        #expect(try !isOpen(kernelName: name))
        if place.isUnix { #expect(try peer.value() == 7) }
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a pause holds back data, not onOpen, until resume`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        connection.resume()
        connection.pause()
        connection.pause()
        let client = try server.listener.accept()
        try client.send("data")
        try loop.run(until: { diary.isOpen })
        for _ in 0..<20 { try loop.run(.noWait) }
        #expect(diary.events == [.open])
        diary.overseer.call("resume") { connection.resume() }
        diary.reactions.data = { connection, _ in connection.close() }
        try loop.run(until: { diary.isClosed })
        #expect(diary.events == [.open, .data(4), .close(.localClose)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `pausing and resuming changes nothing`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        connection.pause()
        connection.resume()
        let client = try server.listener.accept()
        try client.send("data")
        client.close()
        try loop.run()
        #expect(diary.events == [.open, .data(4), .end, .close(.peerClosed)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `an empty write's completion waits for onOpen`(engine: Engine, inCallback: Bool) throws {
        let server = try PlainServer(.ipv4)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let begin = {
            do {
                let connection = try diary.follow { try loop.connect(to: server.address) }
                connection.write("", completion: diary.completion())
            } catch {
                Issue.record(error)
            }
        }
        if inCallback { loop.schedule(after: .zero) { _ in begin() } } else { begin() }
        diary.reactions.open = { $0.close() }
        try loop.run()
        #expect(diary.events == [.open, .completion(0, .sent), .close(.localClose)])
        diary.expectOrder()
    }
}
