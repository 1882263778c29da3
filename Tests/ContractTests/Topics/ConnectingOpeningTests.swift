import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting: opening` {
    @Test(arguments: Engine.allCases, Place.allCases)
    func `a connection opens, then talks both ways, then ends`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let peer = server.serve { client in
            let question = try client.receive(exactly: 8)
            try client.send("answer")
            try client.halfClose()
            try client.expectEnd()
            return question
        }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        diary.reactions.open = { connection in
            #expect(connection.descriptor >= 0 && connection.localAddress != nil)
            #expect(connection.bytesRead == 0 && connection.bytesWritten == 0)
            connection.write("question")
        }
        let connection = try diary.follow { try loop.connect(to: server.address) }
        #expect(connection.remoteAddress == server.address)
        #expect(try loop.run(diary, peer) == Array("question".utf8))
        #expect(diary.events == [.open, .data(6), .end, .close(.peerClosed)])
        #expect(diary.bytes == Array("answer".utf8))
        #expect(connection.bytesRead == 6 && connection.bytesWritten == 8 && connection.bytesUnsent == 0)
        #expect(connection.remoteAddress == server.address && connection.descriptor == -1)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `what the peer sent before this side looked comes after onOpen`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        try diary.follow { try loop.connect(to: server.address) }
        let client = try server.listener.accept()
        try client.send("early")
        try client.halfClose()
        // Nothing has run so far.
        #expect(diary.events == [])
        try loop.run(until: { diary.isClosed })
        #expect(diary.events == [.open, .data(5), .end, .close(.peerClosed)])
        diary.expectOrder()
        try client.expectEnd()
    }

    @Test(arguments: Engine.allCases)
    func `a peer that has reset already is heard out first`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        let client = try server.listener.accept()
        try client.send("last words")
        try client.reset()
        waitForHangUp(connection.descriptor)
        try loop.run(until: { diary.isClosed })
        #expect(
            diary.events == [.open, .data(10), .close(.peerReset)],
            "contract clause 11: bytes that the kernel still holds, then the reset")
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `what was written before a reset is told as unsent`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: server.address) }
        #expect(connection.write("lost", completion: diary.completion()) == .flowing)
        let client = try server.listener.accept()
        try client.send("last words")
        try client.reset()
        waitForHangUp(connection.descriptor)
        try loop.run(until: { diary.isClosed })
        #expect(diary.results == [.failed(.peerReset)])
        #expect(diary.bytes == Array("last words".utf8))
        #expect(connection.bytesUnsent == 4 && connection.bytesWritten == 0)
        diary.expectOrder()
    }

    enum Act: CaseIterable { case close, reset, end, pause, closeTwice, writeAndClose }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `onOpen may do anything with its connection`(engine: Engine, place: Place) throws {
        for act in Act.allCases {
            let server = try PlainServer(place)
            let peer = server.serve { client in
                if act == .pause { try client.send("held back") }
                let (bytes, _) = try client.receiveUntilOver()
                return bytes
            }
            let loop = try EventLoop(engine: engine)
            let diary = Diary()
            diary.reactions.open = { connection in
                switch act {
                case .close: connection.close()
                case .reset: connection.reset()
                case .end: connection.end()
                case .pause:
                    connection.pause()
                    loop.schedule(after: .milliseconds(5)) { _ in connection.resume() }
                case .closeTwice:
                    connection.close()
                    connection.close()
                case .writeAndClose:
                    connection.write("bye")
                    connection.close()
                }
            }
            diary.reactions.data = { connection, _ in connection.end() }
            try diary.follow { try loop.connect(to: server.address) }
            let bytes = try loop.run(diary, peer)
            #expect(bytes == Array((act == .writeAndClose ? "bye" : "").utf8), "\(act)")
            #expect(diary.closeReason == (act == .reset ? .localReset : .localClose), "\(act)")
            #expect(diary.isOpen, "\(act)")
            if act == .pause { #expect(diary.bytes == Array("held back".utf8)) }
            diary.expectOrder()
        }
    }

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a client and a server talk on one loop`(engine: Engine, place: Place) throws {
        let directory = try TemporaryDirectory()
        let loop = try EventLoop(engine: engine)
        let address: SocketAddress =
            switch place {
            case .ipv4: try .ipv4("127.0.0.1", port: 0)
            case .ipv6: try .ipv6("::1", port: 0)
            case .unixPath: try .unix(path: directory.path(of: "server"))
            case .unixAbstract: try .unix(abstract: directory.path(of: "server"))
            }
        let listener = try loop.listen(on: address) { connection in
            connection.onData = { connection, bytes in
                if connection.write(bytes) == .saturated { connection.pause() }
            }
            connection.onDrain = { $0.resume() }
        }
        let payload = pseudoRandomBytes(count: 1_000_000)
        let diary = Diary()
        diary.reactions.open = { $0.write(payload) }
        diary.reactions.data = { connection, _ in if diary.bytes.count == payload.count { connection.end() } }
        try diary.follow { try loop.connect(to: listener.localAddress) }
        diary.reactions.close = { _, _ in listener.close() }
        try loop.run()
        #expect(isEqual(diary.bytes, payload))
        #expect(diary.events.first == .open && diary.closeReason == .localClose)
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `the loop owns a connection that nobody holds`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { try $0.receiveUntilEnd() }
        let loop = try EventLoop(engine: engine)
        weak var held: Connection?
        do {
            let connection = try loop.connect(to: server.address)
            connection.onOpen = { connection in
                connection.write("alone")
                connection.end()
            }
            held = connection
        }
        #expect(held != nil)
        try loop.run()
        #expect(try peer.value() == Array("alone".utf8))
        #expect(held == nil)
    }

    @Test(arguments: Engine.allCases)
    func `without callbacks a connection opens and closes by itself`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let peer = server.serve { client in
            try client.send("x")
            try client.halfClose()
            try client.expectEnd()
        }
        let loop = try EventLoop(engine: engine)
        let connection = try loop.connect(to: server.address)
        try loop.run()
        try peer.value()
        #expect(connection.bytesRead == 1)
    }
}
