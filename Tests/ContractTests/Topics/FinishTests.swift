import CallbackServer
import Glibc
import TestSupport
import Testing

/// `finish(within:)`: last words that arrive, and peers that do not keep a connection for ever.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Finishing` {
    private static let limit = Duration.milliseconds(60)

    @Test(arguments: Engine.allCases)
    func `the peer gets all, may go on sending, and ends when it likes`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        var calls = 0
        connection.onData = { connection, _ in
            calls += 1
            connection.write("last words")
            connection.finish(within: .seconds(600))
            #expect(connection.write("more") == .closed)
        }
        // More than one read brings: what comes behind the first is dropped.
        try scene.run {
            try peer.send([UInt8](repeating: 1, count: 4 << 20))
            #expect(try peer.receiveUntilEnd() == Array("last words".utf8))
            try peer.send([UInt8](repeating: 2, count: 4 << 20))
            try peer.halfClose()
        }
        try scene.runUntilClosed(connection)
        #expect(calls == 1)
        #expect(scene.reason(of: connection) == .localClose)
        #expect(connection.bytesUnsent == 0)
    }

    @Test(arguments: combined(Engine.allCases, [false, true]))
    func `a peer that reads slowly gets all, also from the kernel`(engine: Engine, isUnix: Bool) throws {
        let place = try Place(engine, isUnix: isUnix)
        let (connection, peer) = try place.connect()
        // Over TCP the kernel takes all of it. A Unix socket's holds less, and the rest is queued.
        let size = 600_000
        let start = ContinuousClock.now
        connection.write(pseudoRandomBytes(count: size))
        connection.finish(within: .milliseconds(700))
        var input = [UInt8](repeating: 0, count: size)
        var count = 0
        var isOver = false
        let reading = place.loop.schedule(after: .zero, repeating: .milliseconds(50)) { _ in
            // 2.5 s for all of it, or more. The peer's kernel has a small buffer, so it acknowledges nearly all the
            // time. The timer may fire once more before the connection has seen the peer's end.
            guard !isOver else { return }
            let result = recv(peer.descriptor, &input[count], min(size / 50, size - count), Int32(MSG_DONTWAIT))
            if result > 0 { count += result }
            if count == size {
                isOver = true
                try? peer.halfClose()
            }
        }
        try place.loop.run(until: { place.reason != nil }, timeLimit: .seconds(60))
        reading.cancel()
        #expect(ContinuousClock.now - start > .milliseconds(1_400))
        #expect(place.reason == .localClose && connection.bytesUnsent == 0)
        #expect(count == size && input == pseudoRandomBytes(count: size))
        #expect(try peer.receiveUntilEnd() == [])
    }

    @Test(arguments: combined(Engine.allCases, [false, true]), [100_000, 64 << 20])
    func `a peer that does not read is reset after the limit`(place: (Engine, Bool), size: Int) throws {
        let (engine, isUnix) = place
        let place = try Place(engine, isUnix: isUnix)
        let (connection, peer) = try place.connect()
        connection.write([UInt8](repeating: 1, count: size))
        let start = ContinuousClock.now
        connection.finish(within: Self.limit)
        try place.loop.run(until: { place.reason != nil }, timeLimit: .seconds(60))
        #expect(ContinuousClock.now - start >= Self.limit)
        #expect(place.reason == .timedOut(.close))
        let rest = try peer.receiveUntilOver()
        // A Unix socket has no reset: its peer reads what was in the socket, and an end.
        #expect(rest.ending == (isUnix ? .end : .reset))
        if isUnix { #expect(UInt64(rest.bytes.count) + connection.bytesUnsent == UInt64(size)) }
    }

    @Test(arguments: combined(Engine.allCases, [false, true]))
    func `a peer that has all and does not close keeps nothing open, whatever it sends`(
        engine: Engine, isUnix: Bool
    ) throws {
        let place = try Place(engine, isUnix: isUnix)
        let (connection, peer) = try place.connect()
        connection.write("all")
        connection.finish(within: Self.limit)
        let start = ContinuousClock.now
        let sending = place.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in
            _ = try? peer.sendSome([1, 2, 3])
        }
        #expect(try place.run { try peer.receiveUntilEnd() } == Array("all".utf8))
        try place.loop.run(until: { place.reason != nil }, timeLimit: .seconds(60))
        sending.cancel()
        #expect(ContinuousClock.now - start >= Self.limit)
        #expect(place.reason == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `a paused connection sees the end, also one whose reading has a time-out`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        connection.pause()
        connection.options.timeouts.read = .milliseconds(1)
        try peer.send("unread")
        connection.finish(within: .seconds(600))
        // The read time-out would have passed long ago: the peer owes nothing but its end.
        var isPast = false
        scene.loop.schedule(after: .milliseconds(50)) { _ in isPast = true }
        try scene.loop.run(until: { isPast })
        #expect(scene.reason(of: connection) == nil)
        try peer.halfClose()
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .localClose)
        #expect(try peer.receiveUntilEnd() == [])
    }

    @Test(arguments: Engine.allCases)
    func `a pipe's source that finishes cuts its target off, and a target that finishes has what it was sent`(
        engine: Engine
    ) throws {
        let scene = try StepStage(engine)
        let (source, sourcePeer) = try scene.connect()
        let (target, targetPeer) = try scene.connect()
        source.pipe(to: target)
        try sourcePeer.send("a part")
        try scene.loop.run(until: { target.bytesWritten == 6 })
        source.finish(within: .seconds(600))
        try scene.runUntilClosed(target)
        #expect(try targetPeer.receiveUntilOver().ending == .reset)
        try sourcePeer.halfClose()
        try scene.runUntilClosed(source)
        #expect(try sourcePeer.receiveUntilEnd() == [])

        let (other, otherPeer) = try scene.connect()
        let (last, lastPeer) = try scene.connect()
        other.pipe(to: last)
        try otherPeer.send("all")
        try scene.loop.run(until: { last.bytesWritten == 3 })
        last.finish(within: Self.limit)
        try scene.runUntilClosed(last, other)
        #expect(try lastPeer.receiveUntilEnd() == Array("all".utf8))
        #expect(scene.reason(of: last) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `in the callback of a line, it is the last one that is told`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        var lines = 0
        connection.onLines { connection, _ in
            lines += 1
            connection.write("refused")
            connection.finish(within: .seconds(600))
        }
        try scene.run {
            try peer.send("one\ntwo\nthree\nfo")
            #expect(try peer.receiveUntilEnd() == Array("refused".utf8))
            try peer.send("ur\nfive\n")
            try peer.halfClose()
        }
        try scene.runUntilClosed(connection)
        #expect(lines == 1)
        #expect(scene.reason(of: connection) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `a drain's deadline comes first, and its report tells whole from cut off`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (waiting, waitingPeer) = try scene.connect(receiveBuffer: 4_096)
        let (deaf, deafPeer) = try scene.connect(receiveBuffer: 4_096)
        let (lingering, lingeringPeer) = try scene.connect()
        for connection in [waiting, deaf] { connection.write([UInt8](repeating: 1, count: 100_000)) }
        waiting.finish(within: .seconds(600))
        deaf.finish(within: .milliseconds(200))
        lingering.write("all")
        lingering.finish(within: .milliseconds(200))
        var report: DrainReport?
        scene.listener.drain(within: .seconds(2)) { report = $0 }
        try scene.loop.run(until: { report != nil })
        #expect(report?.reasons == [.drainDeadline: 1, .timedOut(.close): 1, .localClose: 1])
        #expect(report?.forced == 2 && report?.finished == 1)
        #expect(try lingeringPeer.receiveUntilEnd() == Array("all".utf8))
        for peer in [waitingPeer, deafPeer] {
            let over = try peer.receiveUntilOver()
            #expect(over.ending == .reset, "\(over.bytes.count) bytes came before it")
        }
    }

    @Test(arguments: Engine.allCases)
    func `called again by each time-out that keeps the connection, it makes its time no longer`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.timeouts.idle = .milliseconds(50) })
        var calls = 0
        let (connection, peer) = try scene.connect {
            $0.onTimeout = { connection, _ in
                calls += 1
                connection.write("too slow")
                connection.finish(within: .milliseconds(200))
                return .keep
            }
        }
        // The peer reads to the end, and never closes.
        #expect(try scene.run { try peer.receiveUntilEnd() } == Array("too slow".utf8))
        try scene.runUntilClosed(connection)
        #expect(calls > 1)
        #expect(scene.reason(of: connection) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `it may come before the connection is open, behind end, twice, and after the close`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (early, earlyPeer) = try scene.connect {
            $0.write("early")
            $0.finish(within: .seconds(600))
        }
        #expect(try scene.run { try earlyPeer.receiveUntilEnd() } == Array("early".utf8))
        early.finish(within: Self.limit)
        try scene.runUntilClosed(early)
        early.finish(within: .zero)

        let listener = try PlainListener()
        let client = try scene.loop.connect(to: .ipv4("127.0.0.1", port: Int(listener.port)))
        scene.note(client)
        client.write("hello")
        client.end()
        client.finish(within: Self.limit)
        let peer = try scene.run { try listener.accept() }
        #expect(try scene.run { try peer.receiveUntilEnd() } == Array("hello".utf8))
        try scene.runUntilClosed(client)
        #expect(scene.reason(of: client) == .localClose)

        let (both, bothPeer) = try scene.connect { $0.options.allowsHalfOpen = true }
        try bothPeer.halfClose()
        var hasEnded = false
        both.onEnd = { _ in hasEnded = true }
        try scene.loop.run(until: { hasEnded })
        both.write("answer")
        both.finish(within: .seconds(600))
        try scene.runUntilClosed(both)
        #expect(scene.reason(of: both) == .peerClosed)
        #expect(try bothPeer.receiveUntilEnd() == Array("answer".utf8))
    }

    /// One connection over TCP or a Unix socket.
    private final class Place {
        let loop: EventLoop
        private let directory: TemporaryDirectory
        private let path: String?
        private(set) var reason: CloseReason?
        private var peer: PlainClient?

        init(_ engine: Engine, isUnix: Bool) throws {
            loop = try EventLoop(engine: engine)
            directory = try TemporaryDirectory()
            path = isUnix ? directory.path(of: "socket") : nil
        }

        func connect() throws -> (Connection, PlainClient) {
            var accepted: Connection?
            let address = try path.map { try SocketAddress.unix(path: $0) } ?? .ipv4("127.0.0.1", port: 0)
            let listener = try loop.listen(on: address) { [unowned self] connection in
                accepted = connection
                connection.onClose = { [unowned self] _, reason in self.reason = reason }
            }
            let peer =
                try path.map { try PlainClient(unixPath: $0) }
                ?? PlainClient(port: listener.port, receiveBuffer: 8_192)
            self.peer = peer
            try loop.run(until: { accepted != nil })
            listener.close()
            return (try #require(accepted), peer)
        }

        /// Runs the loop beside a peer's thread until that has finished.
        func run<Value: Sendable>(_ peer: @escaping @Sendable () throws -> Value) throws -> Value {
            let thread = onThread(peer)
            try loop.run(until: { thread.isFinished })
            return try thread.value(timeLimit: .seconds(1))
        }
    }
}
