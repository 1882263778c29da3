import CallbackServer
import Glibc
import TestSupport
import Testing

/// `EventLoop.Options.maxQueuedBytes`: a cap on what the connections of a loop have queued together.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A cap on all queues` {
    private static let cap = 4 << 20

    /// A loop with the cap, on whose connections queues are what was written, since the kernel takes little.
    private func makeScene(_ engine: Engine, _ change: (inout Connection.Options) -> Void = { _ in }) throws
        -> StepStage
    {
        var options = EventLoop.Options()
        options.maxQueuedBytes = Self.cap
        return try StepStage(
            engine, loop: options,
            .connections {
                $0.sendBufferSize = 4_096
                $0.timeouts.close = .seconds(60)
                change(&$0)
            })
    }

    @Test(arguments: Engine.allCases)
    func `from three quarters on nobody is read, and from half on everybody again`(engine: Engine) throws {
        let scene = try makeScene(engine)
        let (full, reader) = try scene.connect(receiveBuffer: 4_096)
        var heard: [String] = []
        var queuedThen: [Int] = []
        func listen(_ name: String) -> (Connection) -> Void {
            { connection in
                connection.onData = { _, _ in
                    heard.append(name)
                    queuedThen.append(full.bufferedByteCount)
                }
            }
        }
        let (old, oldPeer) = try scene.connect(listen("old"))
        let (resumed, resumedPeer) = try scene.connect(listen("resumed"))
        resumed.pause()
        full.fillQueue(to: Self.cap / 4 * 3 - 200_000)
        try oldPeer.send("x")
        try scene.loop.run(until: { heard == ["old"] })
        full.fillQueue(to: Self.cap / 4 * 3 + 1)
        let (new, newPeer) = try scene.connect(listen("new"))
        resumed.resume()
        for (connection, peer) in [(old, oldPeer), (resumed, resumedPeer), (new, newPeer)] {
            try peer.send("x")
            waitForInput(connection.descriptor, atLeast: 1)
        }
        try scene.settle()
        #expect(heard == ["old"], "over three quarters")
        queuedThen = []
        // Less than half is left, but the queue is not empty: the reader stops there.
        let queued = full.bufferedByteCount
        try scene.run { _ = try reader.receive(exactly: Self.cap / 3) }
        try scene.loop.run(until: { heard.count == 4 })
        #expect(heard.sorted() == ["new", "old", "old", "resumed"])
        #expect(queuedThen.allSatisfy { $0 <= Self.cap / 2 && $0 > 0 }, "\(queuedThen) of \(queued)")
        #expect(scene.reason(of: full) == nil)
    }

    @Test(arguments: Engine.allCases)
    func `beyond it the largest queue's connection is reset, and the others are whole`(engine: Engine) throws {
        let scene = try makeScene(engine)
        let (large, largePeer) = try scene.connect(receiveBuffer: 4_096)
        let (small, smallPeer) = try scene.connect(receiveBuffer: 4_096)
        let (last, lastPeer) = try scene.connect(receiveBuffer: 4_096)
        var results: [WriteResult] = []
        large.write([UInt8](repeating: 1, count: Self.cap / 2)) { results.append($0) }
        small.write([UInt8](repeating: 2, count: Self.cap / 4))
        #expect(last.write([UInt8](repeating: 3, count: Self.cap / 8 * 3)) == .saturated)
        #expect(results == [], "no callback runs inside the call")
        try scene.runUntilClosed(large)
        #expect(scene.reason(of: large) == .shed)
        #expect(results == [.failed(.shed)])
        #expect(large.bytesUnsent > 0)
        #expect(try largePeer.receiveUntilOver().ending == .reset)
        func expectWhole(_ connection: Connection, _ peer: PlainClient, _ byte: UInt8, _ count: Int) throws {
            connection.end()
            let received = try scene.run { try peer.receiveUntilEnd() }
            #expect(isEqual(received, [UInt8](repeating: byte, count: count)))
            peer.close()
        }
        try expectWhole(small, smallPeer, 2, Self.cap / 4)
        try expectWhole(last, lastPeer, 3, Self.cap / 8 * 3)
        try scene.runUntilClosed(small, last)
        #expect(scene.reason(of: small) == .localClose)
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `who writes too much itself is told at once`(engine: Engine, pieces: Bool) throws {
        let scene = try makeScene(engine)
        let (other, _) = try scene.connect(receiveBuffer: 4_096)
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        other.fillQueue(to: 100_000)
        var completions = 0
        var statuses: [WriteStatus] = []
        scene.loop.schedule(after: .zero) { _ in
            let much = [UInt8](repeating: 1, count: Self.cap + 1_000_000)
            statuses.append(
                pieces
                    ? connection.write([[1], much, [1]]) { _ in completions += 1 }
                    : connection.write(much) { _ in completions += 1 })
            statuses.append(connection.write("more"))
        }
        try scene.runUntilClosed(connection)
        #expect(statuses == [.closed, .closed])
        #expect(scene.reason(of: connection) == .shed)
        #expect(completions == 0)
        #expect(try peer.receiveUntilOver().ending == .reset)
        #expect(scene.reason(of: other) == nil)
    }

    @Test(arguments: Engine.allCases)
    func `a connection that was closing or ending is told the true cause`(engine: Engine) throws {
        let scene = try makeScene(engine)
        for isEnded in [true, false] {
            let (closing, _) = try scene.connect(receiveBuffer: 4_096)
            let (writer, _) = try scene.connect(receiveBuffer: 4_096)
            closing.fillQueue(to: Self.cap / 8 * 5)
            if isEnded { closing.end() } else { closing.close() }
            writer.fillQueue(to: Self.cap / 4)
            writer.write([UInt8](repeating: 1, count: Self.cap / 4))
            try scene.runUntilClosed(closing)
            #expect(scene.reason(of: closing) == .shed)
            #expect(scene.reason(of: writer) == nil)
            writer.reset()
            try scene.runUntilClosed(writer)
        }
    }

    /// How a full queue can come to its end.
    enum Ending: CaseIterable { case reset, peerResets, closeTimesOut, writeTimesOut, drained, shed, drainDeadline }

    @Test(arguments: Engine.allCases)
    func `whatever becomes of a queue, its bytes are no longer counted`(engine: Engine) throws {
        let scene = try makeScene(engine) { $0.timeouts.close = .milliseconds(30) }
        for ending in Ending.allCases {
            let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
            connection.fillQueue(to: Self.cap / 4 * 3 - 200_000)
            try act(ending, connection, peer, scene)
            try scene.runUntilClosed(connection)
        }
        // The listener is closed by the drain; this loop must still hold as much as in the beginning.
        let listener = try scene.loop.listen(options: .connections { $0.sendBufferSize = 4_096 }) { connection in
            connection.fillQueue(to: Self.cap - 300_000)
            connection.onData = { connection, _ in connection.reset() }
        }
        let port = listener.port
        let client = try PlainClient(port: port, receiveBuffer: 4_096)
        try scene.loop.run(until: { listener.connectionCount == 1 })
        try client.send("not read: this queue alone is over three quarters")
        try scene.settle()
        #expect(listener.connectionCount == 1)
        // At half of the cap it is read, and resets.
        let received = try scene.run { try client.receiveUntilOver() }
        #expect(received.ending == .reset && received.bytes.count >= Self.cap / 2 - 300_000)
        #expect(listener.connectionCount == 0)
    }

    private func act(_ ending: Ending, _ connection: Connection, _ peer: PlainClient, _ scene: StepStage) throws {
        switch ending {
        case .reset: connection.reset()
        case .peerResets: try peer.reset()
        case .closeTimesOut: connection.close()
        case .writeTimesOut: connection.options.timeouts.write = .milliseconds(30)
        case .drained:
            connection.end()
            try scene.run { _ = try peer.receiveUntilEnd() }
            peer.close()
        case .shed: connection.write([UInt8](repeating: 1, count: Self.cap))
        case .drainDeadline: scene.listener.drain(within: .milliseconds(1)) { _ in }
        }
    }

    @Test(arguments: Engine.allCases)
    func `not being read for it, a connection has no read time-out, and its reset is noticed`(engine: Engine) throws {
        let scene = try makeScene(engine)
        let (full, reader) = try scene.connect(receiveBuffer: 4_096)
        let (resetting, resettingPeer) = try scene.connect()
        let (quiet, quietPeer) = try scene.connect()
        var timeouts = 0
        quiet.onTimeout = { _, _ in
            timeouts += 1
            return .keep
        }
        full.fillQueue(to: Self.cap / 4 * 3 + 1)
        quiet.options.timeouts.read = .milliseconds(20)
        try resettingPeer.reset()
        try scene.runUntilClosed(resetting)
        #expect(scene.reason(of: resetting) == .peerReset)
        #expect(timeouts == 0)
        // Once it is read again, the time-out counts from then.
        try scene.run { _ = try reader.receive(exactly: Self.cap / 2) }
        try scene.loop.run(until: { timeouts >= 1 })
        quietPeer.close()
    }

    @Test(arguments: Engine.allCases, [Int.min, -1, 0, (1 << 20) - 1])
    func `a cap of less than 1 MiB is refused by its value`(engine: Engine, bytes: Int) throws {
        var options = EventLoop.Options()
        options.maxQueuedBytes = bytes
        let error = #expect(throws: IOError.self) { try EventLoop(engine: engine, options: options) }
        #expect(error?.name == "EINVAL")
        #expect(error?.detail?.contains("maxQueuedBytes \(bytes)") == true)
        options.maxQueuedBytes = 1 << 20
        _ = try EventLoop(engine: engine, options: options)
    }
}
