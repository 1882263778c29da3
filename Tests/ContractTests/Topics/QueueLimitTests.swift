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
    func `from three quarters on whoever is above its share is not read, and from half on everybody`(
        engine: Engine
    ) throws {
        let scene = try makeScene(engine)
        var heard: [String] = []
        func listen(_ name: String) -> (Connection) -> Void {
            { connection in connection.onData = { _, _ in heard.append(name) } }
        }
        let (above, reader) = try scene.connect(receiveBuffer: 4_096, listen("above"))
        let (below, belowPeer) = try scene.connect(receiveBuffer: 4_096, listen("below"))
        let (old, oldPeer) = try scene.connect(listen("old"))
        let (resumed, resumedPeer) = try scene.connect(listen("resumed"))
        let (paused, pausedPeer) = try scene.connect(receiveBuffer: 4_096, listen("paused"))
        var events: [EventLoop.OverloadEvent] = []
        scene.loop.onOverload = { events.append($0) }
        resumed.pause()
        paused.pause()
        // The share of each is a third of the cap.
        below.fillQueue(to: 100_000)
        paused.fillQueue(to: Self.cap / 8 * 3)
        above.fillQueue(to: Self.cap / 8 * 3 - 200_000)
        try scene.settle()
        #expect(events == [], "up to three quarters")
        above.fillQueue(to: Self.cap / 8 * 3)
        let (new, newPeer) = try scene.connect(listen("new"))
        resumed.resume()
        paused.resume()
        let everybody = [
            (above, reader), (below, belowPeer), (old, oldPeer), (resumed, resumedPeer), (new, newPeer),
            (paused, pausedPeer),
        ]
        for (connection, peer) in everybody {
            try peer.send("x")
            waitForInput(connection.descriptor, atLeast: 1)
        }
        try scene.settle()
        #expect(heard.sorted() == ["below", "new", "old", "resumed"], "over three quarters")
        #expect(events == [.began])
        // Less than half is left, but the queues are not empty: the readers stop there.
        try scene.run { _ = try reader.receive(exactly: Self.cap / 4) }
        try scene.run { _ = try pausedPeer.receive(exactly: Self.cap / 8) }
        try scene.loop.run(until: { events.count == 2 && heard.count == 6 })
        #expect(Set(heard.suffix(2)) == ["above", "paused"])
        #expect(events == [.began, .ended])
        for (connection, _) in everybody { #expect(scene.reason(of: connection) == nil) }
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
        var events: [EventLoop.OverloadEvent] = []
        scene.loop.onOverload = { events.append($0) }
        var accepted: Connection?
        let listener = try scene.loop.listen(options: .connections { $0.sendBufferSize = 4_096 }) { accepted = $0 }
        let client = try PlainClient(port: listener.port, receiveBuffer: 4_096)
        try scene.loop.run(until: { accepted != nil })
        let connection = try #require(accepted)
        connection.fillQueue(to: Self.cap / 4 * 3)
        try scene.settle()
        #expect(events == [])
        connection.write("x")
        try scene.settle()
        #expect(events == [.began])
        connection.reset()
        try scene.settle()
        #expect(events == [.began, .ended])
        client.close()
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
    func `not being read for it, a connection has no idle or read time-out, and its reset is noticed`(
        engine: Engine
    ) throws {
        let scene = try makeScene(engine)
        var timeouts: [String: Int] = [:]
        func connect(_ name: String) throws -> (connection: Connection, peer: PlainClient) {
            try scene.connect(receiveBuffer: 4_096) {
                $0.onTimeout = { _, kind in
                    timeouts["\(name) \(kind)", default: 0] += 1
                    return .keep
                }
            }
        }
        let (held, reader) = try connect("held")
        let (resetting, resettingPeer) = try connect("resetting")
        let (quiet, quietPeer) = try connect("quiet")
        let (small, smallPeer) = try connect("small")
        small.fillQueue(to: 100_000)
        resetting.fillQueue(to: Self.cap / 8 * 3)
        held.fillQueue(to: Self.cap / 8 * 3)
        // The kernel takes no more, or a byte that leaves would be activity.
        try scene.settle()
        for connection in [held, quiet] {
            connection.options.timeouts.read = .milliseconds(20)
            connection.options.timeouts.idle = .milliseconds(30)
        }
        try scene.loop.run(until: { timeouts["quiet read", default: 0] >= 5 && timeouts["quiet idle", default: 0] >= 5 }
        )
        #expect(timeouts["held read"] == nil && timeouts["held idle"] == nil)
        // Its own, and no longer the loop's: idle counts from then.
        held.pause()
        try scene.loop.run(until: { timeouts["held idle", default: 0] >= 1 })
        #expect(timeouts["held read"] == nil)
        held.resume()
        timeouts["held idle"] = nil
        try resettingPeer.reset()
        try scene.runUntilClosed(resetting)
        #expect(scene.reason(of: resetting) == .peerReset)
        // That has ended the overload: both count again.
        try scene.loop.run(until: { timeouts["held read", default: 0] >= 1 && timeouts["held idle", default: 0] >= 1 })
        withExtendedLifetime([reader, quietPeer, smallPeer]) {}
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
