import CallbackServer
import Glibc
import TestSupport
import Testing

/// What needs a process of its own: descriptors are counted here, and their limit is the process's.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting: many, at the limit, and letting go` {
    @Test(arguments: Engine.allCases)
    func `five hundred connections at once all open, once`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let before = try openDescriptors()
            try connectAtOnce(engine, count: engine == .select ? 400 : 500)
            // What the first loop of a process keeps is /dev/null and the like, never a socket.
            #expect(try sockets(before) == sockets(openDescriptors()))
        }
    }

    @Test(arguments: Engine.allCases)
    func `without a descriptor connect throws, nothing is left, and it works again`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let server = try PlainServer(.ipv4)
            let loop = try EventLoop(engine: engine)
            let before = try sockets(openDescriptors())
            // The three below are the standard streams, so that no number is free, whatever other threads do.
            let error = try withDescriptorLimit(3) {
                #expect(throws: IOError.self) { try loop.connect(to: server.address) }
            }
            #expect(error == IOError(call: "socket", errno: EMFILE, address: server.address))
            #expect(!loop.isAlive)
            #expect(try sockets(openDescriptors()) == before)
            let diary = Diary()
            diary.reactions.open = { $0.close() }
            try diary.follow { try loop.connect(to: server.address) }
            try loop.run()
            #expect(diary.events == [.open, .close(.localClose)], "\(diary.events)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `a descriptor beyond what the engine can wait for is refused by select alone`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let server = try PlainServer(.ipv4)
            let loop = try EventLoop(engine: engine)
            // FD_SETSIZE is 1,024 (select(2)): no lower number is left.
            _ = try takeDescriptors(below: 1_024)
            let before = try sockets(openDescriptors())
            let diary = Diary()
            diary.reactions.open = { $0.close() }
            let high = duplicate(server.listener.descriptor)
            if engine == .select {
                let error = #expect(throws: IOError.self) { try loop.connect(to: server.address) }
                #expect(error?.errno == EMFILE)
                let refused = #expect(throws: IOError.self) { try loop.listen(adopting: high) { _ in } }
                #expect(refused?.errno == EMFILE && fcntl(high, F_GETFD) >= 0)
                try diary.follow { try loop.connect(host: "127.0.0.1", port: Int(server.listener.port)) }
                try loop.run()
                #expect(diary.failure?.errno == EMFILE, "\(diary.events)")
            } else {
                try diary.follow { try loop.connect(to: server.address) }
                try loop.run()
                #expect(diary.events == [.open, .close(.localClose)])
            }
            diary.expectOrder()
            close(high)
            #expect(try sockets(openDescriptors()) == before)
        }
    }

    @Test(arguments: Engine.allCases)
    func `letting go of a loop closes what is on its way, and calls nobody`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            // What is made once for the process is there after the first.
            try letGo(engine)
            let before = try openDescriptors()
            for _ in 0..<20 { try letGo(engine) }
            let after = try openDescriptors()
            #expect(sockets(after) == sockets(before))
            // Of the others the process may open a few of its own meanwhile, and close them, but not one a loop.
            #expect(after.count < before.count + 10, "\(after)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `a connection that outlives its loop is at rest`(engine: Engine) throws {
        let peer = try HangingPeer()
        var loop: EventLoop? = try EventLoop(engine: engine)
        let connection = try #require(try loop?.connect(to: peer.address))
        let byName = try #require(try loop?.connect(host: "127.0.0.1", port: peer.address.port ?? 0))
        loop = nil
        for connection in [connection, byName] {
            #expect(connection.write("x") == .closed && connection.descriptor == -1)
            connection.resume()
            connection.end()
            connection.close()
            connection.reset()
            #expect(connection.age >= .zero && connection.localAddress == nil)
        }
    }
}

private func sockets(_ descriptors: [Int32: String]) -> Int {
    descriptors.values.count { $0.hasPrefix("socket:") }
}

private func connectAtOnce(_ engine: Engine, count: Int) throws {
    let loop = try EventLoop(engine: engine)
    let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
        connection.onData = { connection, bytes in connection.write(bytes) }
    }
    var diaries: [Diary] = []
    var closed = 0
    for number in 0..<count {
        let diary = Diary()
        diaries.append(diary)
        let payload = pseudoRandomBytes(count: 100, seed: UInt64(number))
        diary.reactions.data = { connection, _ in if diary.bytes.count == payload.count { connection.end() } }
        diary.reactions.close = { _, _ in
            #expect(diary.bytes == payload)
            closed += 1
            if closed == count { listener.close() }
        }
        let connection = try diary.follow { try loop.connect(to: listener.localAddress) }
        connection.write(payload, completion: diary.completion())
    }
    try loop.run()
    for diary in diaries {
        #expect(diary.events == [.open, .completion(0, .sent), .data(100), .end, .close(.localClose)])
        diary.expectOrder()
    }
}

/// A loop with connections at every stage on their way, let go.
private func letGo(_ engine: Engine) throws {
    let server = try PlainServer(.ipv4)
    let silent = try SilentPort()
    let hanging = try HangingPeer()
    var loop: EventLoop? = try EventLoop(engine: engine)
    var called: [String] = []
    weak var token: Token?
    weak var connection: Connection?
    func watch(_ name: String, _ made: Connection?) {
        let held = Token()
        token = held
        connection = made
        made?.onOpen = { _ in withExtendedLifetime(held) { called.append("open \(name)") } }
        made?.onClose = { connection, _ in called.append("close \(name) \(connection.age)") }
        made?.write([UInt8](repeating: 1, count: 100_000)) { _ in called.append("completion \(name)") }
    }
    let port = hanging.address.port ?? 0
    for turns in 0..<3 {
        watch("hanging", try loop?.connect(to: hanging.address))
        watch("open", try loop?.connect(to: server.address))
        watch("refused", try loop?.connect(to: silent.address))
        watch("numeric", try loop?.connect(host: "127.0.0.1", port: port))
        watch("named", try loop?.connect(host: "localhost", port: port))
        let closing = try loop?.connect(host: "localhost", port: port)
        watch("closing", closing)
        closing?.reset()
        for _ in 0..<turns { try loop?.run(.noWait) }
    }
    called = []
    loop = nil
    #expect(called == [])
    #expect(token == nil && connection == nil, "a callback or a connection is still held")
}
