import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A pipe` {
    /// Less than the high water mark, and one read more (``Connection/pipe(to:)``).
    static let longestQueue = 64 * 1024 - 1 + EventLoop.Options().readBufferSize

    @Test(arguments: Engine.allCases)
    func `64 MiB arrive whole at a slow reader, through a short queue`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 64 << 10 })
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect(receiveBuffer: 16 << 10)
        let block = pseudoRandomBytes(count: 1_048_573, seed: 1)
        var longest = 0
        var drains = 0
        target.onDrain = { _ in drains += 1 }
        source.pipe(to: target)
        let turns = TurnCounter(scene.loop)
        turns.onTurn = { _ in longest = max(longest, target.bufferedByteCount) }
        let sending = onThread {
            for _ in 0..<64 { try sender.send(block) }
            try sender.halfClose()
        }
        let end = try scene.run(timeLimit: .seconds(60)) { try reader.firstDifference(fromRepeated: block) }
        turns.stop()
        try sending.value()
        #expect(end == 64 * block.count, "all of it, each byte in its place, and then the end")
        #expect(longest > 0 && longest <= Self.longestQueue)
        #expect(drains > 1, "the target's own onDrain runs as well")
        #expect(source.bytesRead == UInt64(64 * block.count))
    }

    @Test(arguments: Engine.allCases)
    func `both ways at once, 16 MiB each`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (left, leftPeer) = try scene.connect()
        let (right, rightPeer) = try scene.connect()
        left.pipe(to: right)
        right.pipe(to: left)
        let echoing = onThread {
            while case let piece = try rightPeer.receiveSome(), !piece.isEmpty { try rightPeer.send(piece) }
            try rightPeer.halfClose()
        }
        try scene.run(timeLimit: .seconds(60)) {
            try leftPeer.echoExactly(16 << 20)
            try leftPeer.halfClose()
            try leftPeer.expectEnd()
        }
        try scene.runUntilClosed(left, right)
        try echoing.value()
        #expect(scene.reason(of: left) == .peerClosed)
        #expect(scene.reason(of: right) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `what comes while the target is still connecting waits for it`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let server = try PlainListener()
        var upstream: Connection?
        let bytes = pseudoRandomBytes(count: 1 << 20, seed: 2)
        var longest = 0
        let (_, client) = try scene.connect { client in
            // By its host, which takes a few turns at least.
            guard let target = try? scene.loop.connect(host: "127.0.0.1", port: Int(server.port)) else { return }
            client.pipe(to: target)
            target.pipe(to: client)
            upstream = target
        }
        let target = try #require(upstream)
        scene.note(target)
        let turns = TurnCounter(scene.loop)
        turns.onTurn = { _ in longest = max(longest, target.bufferedByteCount) }
        let received = try scene.run {
            let sending = onThread {
                try client.send(bytes)
                try client.halfClose()
            }
            let accepted = try server.accept()
            let received = try accepted.receiveUntilEnd()
            try accepted.send("answer")
            accepted.close()
            #expect(try client.receiveUntilEnd() == Array("answer".utf8))
            try sending.value()
            return received
        }
        turns.stop()
        #expect(isEqual(received, bytes))
        #expect(longest <= Self.longestQueue)
        try scene.runUntilClosed(target)
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `a target that never opens resets the source`(engine: Engine, byHost: Bool) throws {
        let scene = try StepStage(engine)
        // A client's own port: nobody listens there, and nobody else can meanwhile.
        let closedPort = try scene.connect().peer.localPort
        var upstream: Connection?
        let (source, client) = try scene.connect { client in
            let port = Int(closedPort)
            upstream =
                byHost
                ? try? scene.loop.connect(host: "127.0.0.1", port: port)
                : try? scene.loop.connect(to: .ipv4("127.0.0.1", port: port))
            guard let upstream else { return }
            // At once: the refusal may come before `connect` below has returned.
            scene.note(upstream)
            client.pipe(to: upstream)
        }
        let target = try #require(upstream)
        // Unless it is reset already.
        _ = try? client.send("lost")
        try scene.runUntilClosed(source, target)
        try client.expectReset()
        #expect(scene.reason(of: source) == .localReset)
        guard case .failed(let error)? = scene.reason(of: target) else {
            Issue.record("\(String(describing: scene.reason(of: target)))")
            return
        }
        #expect(error.name == "ECONNREFUSED")
    }

    @Test(arguments: Engine.allCases)
    func `moved to another target while the first one's queue is full, it flows there`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let (source, sender) = try scene.connect()
        let (first, _) = try scene.connect(receiveBuffer: 4_096)
        let (second, reader) = try scene.connect()
        source.pipe(to: first)
        try scene.flood(sender)
        source.pipe(to: second)
        let received = try scene.run { () -> [UInt8] in
            let reading = onThread { try reader.receiveUntilEnd() }
            try sender.send("the last bytes")
            try sender.halfClose()
            return try reading.value()
        }
        #expect(received.count > 14)
        #expect(received.suffix(14) == Array("the last bytes".utf8))
        // The first has been left alone: its pipe is gone, and with it what it would have been told.
        #expect(scene.reason(of: first) == nil)
        #expect(first.bufferedByteCount > 0)
        #expect(second.bytesWritten == UInt64(received.count))
    }

    @Test(arguments: Engine.allCases)
    func `a target takes from one source: another pipe to it sets the first source free`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let (first, firstPeer) = try scene.connect()
        let (second, secondPeer) = try scene.connect()
        let (target, reader) = try scene.connect(receiveBuffer: 4_096)
        first.pipe(to: target)
        try scene.flood(firstPeer)
        second.pipe(to: target)
        // It is read again, into nothing until it has an `onData`.
        let before = first.bytesRead
        try scene.loop.run(until: { first.bytesRead > before })
        var kept: [UInt8] = []
        first.onData = { kept += [UInt8](copying: $1) }
        let received = try scene.run { () -> Int in
            try secondPeer.send("second")
            try secondPeer.halfClose()
            return try reader.receiveUntilEnd().count
        }
        #expect(target.bytesWritten == UInt64(received))
        try firstPeer.send("own")
        try firstPeer.halfClose()
        try scene.runUntilClosed(first)
        #expect(scene.reason(of: first) == .peerClosed)
        #expect(kept.suffix(3) == Array("own".utf8))
    }

    @Test(arguments: Engine.allCases)
    func `a chain: the second is a target and a source`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (one, peerOne) = try scene.connect()
        let (two, peerTwo) = try scene.connect()
        let (three, peerThree) = try scene.connect()
        one.pipe(to: two)
        two.pipe(to: three)
        let bytes = pseudoRandomBytes(count: 3 << 20, seed: 5)
        try scene.run {
            let sending = onThread {
                try peerOne.send(bytes)
                try peerOne.halfClose()
            }
            // The second's peer passes on what it gets.
            let passing = onThread {
                while case let piece = try peerTwo.receiveSome(), !piece.isEmpty { try peerTwo.send(piece) }
                try peerTwo.halfClose()
            }
            #expect(isEqual(try peerThree.receiveUntilEnd(), bytes))
            try peerThree.halfClose()
            try sending.value()
            try passing.value()
        }
        try scene.runUntilClosed(one, two, three)
        #expect(scene.reason(of: one) == .peerClosed)
        #expect(scene.reason(of: two) == .localClose)
        #expect(scene.reason(of: three) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `the loop let go in the middle keeps nothing alive`(engine: Engine) throws {
        weak var left: Connection?
        weak var right: Connection?
        weak var third: Connection?
        var peers: [PlainClient] = []
        do {
            let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
            let one = try scene.connect(receiveBuffer: 4_096)
            let two = try scene.connect(receiveBuffer: 4_096)
            let three = try scene.connect()
            one.connection.pipe(to: two.connection)
            two.connection.pipe(to: one.connection)
            three.connection.pipe(to: one.connection)
            try scene.flood(three.peer)
            (left, right, third) = (one.connection, two.connection, three.connection)
            #expect(left != nil && right != nil && third != nil)
            peers = [one.peer, two.peer, three.peer]
        }
        #expect(left == nil && right == nil && third == nil)
        for peer in peers { _ = try? peer.receiveUntilOver() }
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A pipe's preconditions` {
    @Test(arguments: Engine.allCases)
    func `not to itself`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let scene = try StepStage(engine)
            let (connection, _) = try scene.connect()
            connection.pipe(to: connection)
        }
        expectSentence(result, "cannot be piped to itself")
    }

    @Test(arguments: Engine.allCases)
    func `not to a connection of another loop`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            let scenes = try [StepStage(engine), StepStage(engine)]
            let (one, _) = try scenes[0].connect()
            let (other, _) = try scenes[1].connect()
            one.pipe(to: other)
        }
        expectSentence(result, "belong to two loops")
    }
}
