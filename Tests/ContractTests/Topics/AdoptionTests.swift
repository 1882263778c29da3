import CallbackServer
import Glibc
import TestSupport
import Testing

/// Sockets that somebody else has made.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Adopting a socket` {
    // MARK: Connected

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a connected socket talks both ways, then ends, without onOpen`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let near = try connectedDescriptor(server)
        let client = try server.listener.accept()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        _ = fcntl(near, F_SETFD, 0)
        let connection = try diary.follow { try loop.adopt(connected: near) }
        #expect(connection.descriptor == near && connection.remoteAddress == server.address)
        #expect(connection.localAddress != nil)
        #expect(isPrepared(near))
        connection.write("question", completion: diary.completion())
        #expect(try client.receive(exactly: 8) == Array("question".utf8))
        try client.send("answer")
        try client.halfClose()
        #expect(diary.events == [])
        try loop.run()
        #expect(diary.events == [.completion(0, .sent), .data(6), .end, .close(.peerClosed)])
        try client.expectEnd()
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a pair is adopted by both ends of one loop`(engine: Engine) throws {
        let ends = try pair()
        let loop = try EventLoop(engine: engine)
        let (left, right) = (Diary(), Diary())
        let one = try left.follow { try loop.adopt(connected: ends.0) }
        try right.follow { try loop.adopt(connected: ends.1) }
        let payload = pseudoRandomBytes(count: 1_000_000)
        one.write(payload, completion: left.completion())
        one.end()
        try loop.run()
        #expect(isEqual(right.bytes, payload))
        #expect(left.events == [.completion(0, .sent), .drain, .end, .close(.localClose)])
        #expect(right.closeReason == .peerClosed)
        left.expectOrder()
        right.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `calls before the loop runs count`(engine: Engine) throws {
        let acts: [(Connection) -> Void] = [{ $0.close() }, { $0.reset() }, { $0.pause() }, { $0.end() }]
        for (number, act) in acts.enumerated() {
            let ends = try pair()
            let peer = PlainClient(adopting: ends.1)
            try peer.send("x")
            let loop = try EventLoop(engine: engine)
            let diary = Diary()
            let connection = try diary.follow { try loop.adopt(connected: ends.0) }
            act(connection)
            if number == 2 {
                for _ in 0..<10 { try loop.run(.noWait) }
                #expect(diary.events == [])
                connection.resume()
                diary.reactions.data = { connection, _ in connection.close() }
            }
            if number == 3 { diary.reactions.data = { _, _ in #expect(throws: Never.self) { try peer.halfClose() } } }
            try loop.run()
            #expect(diary.closeReason == (number == 1 ? .localReset : .localClose))
            #expect(diary.bytes.count == (number < 2 ? 0 : 1))
            diary.expectOrder()
        }
    }

    @Test(arguments: Engine.allCases)
    func `a peer that has reset before is heard out, also when a write finds it out`(engine: Engine) throws {
        for writes in [false, true] {
            let server = try PlainServer(.ipv4)
            let near = try connectedDescriptor(server)
            let client = try server.listener.accept()
            let loop = try EventLoop(engine: engine)
            let diary = Diary()
            let connection = try diary.follow { try loop.adopt(connected: near) }
            try client.send("last words")
            try client.reset()
            waitForHangUp(near)
            let begin = monotonicTime()
            if writes { for _ in 0..<2 { connection.write("x") } }
            try loop.run()
            #expect(diary.events == [.data(10), .close(.peerReset)], "writes: \(writes)")
            // Not the five seconds that such a connection has at most.
            #expect(monotonicTime() - begin < .seconds(5))
            diary.expectOrder()
        }
    }

    // MARK: Listening

    @Test(arguments: Engine.allCases, Place.allCases)
    func `a listening socket serves, and its file stays`(engine: Engine, place: Place) throws {
        let server = try PlainServer(place)
        let descriptor = duplicate(server.listener.descriptor)
        server.listener.close()
        let loop = try EventLoop(engine: engine)
        _ = fcntl(descriptor, F_SETFD, 0)
        let listener = try loop.listen(adopting: descriptor) { connection in
            connection.onData = { connection, bytes in connection.write(bytes) }
        }
        #expect(listener.localAddress == server.address)
        #expect(isPrepared(descriptor))
        let name = try #require(try openDescriptors()[descriptor])
        var diaries: [Diary] = []
        for number in 0..<20 {
            let diary = Diary()
            diaries.append(diary)
            let connection = try diary.follow { try loop.connect(to: server.address) }
            connection.write([UInt8](repeating: UInt8(number), count: 1_000))
            diary.reactions.data = { connection, _ in if diary.bytes.count == 1_000 { connection.end() } }
        }
        try loop.run(until: { diaries.allSatisfy(\.isClosed) && listener.connectionCount == 0 })
        for (number, diary) in diaries.enumerated() {
            #expect(diary.bytes == [UInt8](repeating: UInt8(number), count: 1_000))
        }
        listener.close()
        try loop.run()
        #expect(try !isOpen(kernelName: name))
        if place == .unixPath { #expect(access(server.address.host, F_OK) == 0) }
    }

    @Test(arguments: Engine.allCases)
    func `a client that waits already is accepted`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let descriptor = duplicate(server.listener.descriptor)
        let client = try PlainClient(port: server.listener.port)
        try client.send("x")
        let loop = try EventLoop(engine: engine)
        var got = 0
        let listener = try loop.listen(adopting: descriptor) { connection in
            connection.onData = { connection, bytes in
                got += bytes.count
                connection.close()
            }
        }
        try loop.run(until: { got == 1 && listener.connectionCount == 0 })
        try client.expectEnd()
    }

    // MARK: Refusals

    enum Wrong: CaseIterable {
        case closed, negative, file, datagram, packets, notConnected, listening, connected, bound

        /// A descriptor of this kind; nothing to close for one that is none.
        func make() throws -> Int32 {
            switch self {
            case .closed: return 1_000_000
            case .negative: return -1
            case .file: return open("/dev/null", O_RDWR | O_CLOEXEC)
            case .datagram: return socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            case .packets: return socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
            case .notConnected, .bound: return socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            case .listening:
                let made = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
                listen(made, 1)
                return made
            case .connected:
                let ends = try pair()
                Glibc.close(ends.1)
                return ends.0
            }
        }

        var errnoAsStream: Int32? {
            switch self {
            case .closed, .negative: EBADF
            case .file: ENOTSOCK
            case .datagram, .packets, .listening: EINVAL
            case .notConnected, .bound: ENOTCONN
            case .connected: nil
            }
        }

        var errnoAsListener: Int32? {
            switch self {
            case .closed, .negative: EBADF
            case .file: ENOTSOCK
            case .datagram, .packets, .notConnected, .bound, .connected: EINVAL
            case .listening: nil
            }
        }
    }

    @Test(arguments: Engine.allCases, Wrong.allCases)
    func `what is no such socket is refused, and left as it was`(engine: Engine, wrong: Wrong) throws {
        let loop = try EventLoop(engine: engine)
        let descriptor = try wrong.make()
        let flags = (fcntl(descriptor, F_GETFL), fcntl(descriptor, F_GETFD))
        // A number beyond its bound is refused by select(2)'s engine before it is looked at.
        let isBeyond = engine == .select && wrong == .closed
        if let errno = wrong.errnoAsStream {
            let error = #expect(throws: IOError.self) { try loop.adopt(connected: descriptor) }
            #expect(error?.errno == errno || isBeyond, "\(String(describing: error))")
        }
        if let errno = wrong.errnoAsListener {
            let error = #expect(throws: IOError.self) { try loop.listen(adopting: descriptor) { _ in } }
            #expect(error?.errno == errno || isBeyond, "\(String(describing: error))")
        }
        let bad = Connection.Options.with { $0.highWaterMark = 0 }
        #expect(throws: IOError.self) { try loop.adopt(connected: descriptor, options: bad) }
        #expect(flags == (fcntl(descriptor, F_GETFL), fcntl(descriptor, F_GETFD)))
        #expect(!loop.isAlive)
        if ![.closed, .negative].contains(wrong) { #expect(close(descriptor) == 0) }
    }

    @Test(arguments: Engine.allCases)
    func `without a descriptor left a listening socket is refused, and stays open`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let server = try PlainServer(.ipv4)
            let loop = try EventLoop(engine: engine)
            let descriptor = duplicate(server.listener.descriptor)
            // The three below are the standard streams: no number is free for what a listener keeps in reserve.
            let error = try withDescriptorLimit(3) {
                #expect(throws: IOError.self) { try loop.listen(adopting: descriptor) { _ in } }
            }
            #expect(error?.errno == EMFILE)
            #expect(fcntl(descriptor, F_GETFD) >= 0, "closed, though it was refused")
        }
    }

    @Test(arguments: Engine.allCases)
    func `a socket on a standard stream's number is closed like any other`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            // As inetd(8) hands it over.
            let ends = try pair()
            let peer = PlainClient(adopting: ends.1)
            dup2(ends.0, STDIN_FILENO)
            close(ends.0)
            let loop = try EventLoop(engine: engine)
            let connection = try loop.adopt(connected: STDIN_FILENO)
            connection.onData = { connection, bytes in
                connection.write(bytes)
                connection.close()
            }
            try peer.send("x")
            try loop.run()
            #expect(try peer.receiveUntilEnd() == [UInt8(ascii: "x")])
        }
    }
}

/// A blocking socket that is connected to the server, without close-on-exec.
private func connectedDescriptor(_ server: PlainServer) throws -> Int32 {
    let client =
        switch server.address.port {
        case let port?: try PlainClient(port: UInt16(port), host: server.address.host)
        case nil where server.address.host.hasPrefix("@"):
            try PlainClient(abstractName: String(server.address.host.dropFirst()))
        case nil: try PlainClient(unixPath: server.address.host)
        }
    return duplicate(client.descriptor)
}

/// Two connected sockets.
private func pair() throws -> (Int32, Int32) {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
        throw PeerError(call: "socketpair", cause: .errno(errno), waitedFor: "two sockets")
    }
    return (ends[0], ends[1])
}

/// Whether a descriptor is non-blocking and closed on exec.
private func isPrepared(_ descriptor: Int32) -> Bool {
    fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0 && fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0
}
