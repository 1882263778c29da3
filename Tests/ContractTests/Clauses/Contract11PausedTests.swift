import CallbackServer
import Glibc
import TestSupport
import Testing

/// To a connection that does not read, the kernel tells nothing by itself.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 11: a reset of a paused connection` {
    /// What the connection is in the middle of when the peer resets it.
    enum State: CaseIterable {
        case `nothing unread`
        case `data unread`
        case `data and FIN unread`
        case `paused in onConnection`
        case `queue full`
        case `our FIN sent`
        case `our FIN sent, data unread`
        case `FIN told, half-open`
        case `FIN told, half-open, queue full`
    }

    @Test(arguments: Engine.allCases, State.allCases)
    func `is noticed within 2 seconds`(engine: Engine, state: State) throws {
        let scene = try StepStage(
            engine,
            .connections {
                $0.allowsHalfOpen = true; $0.sendBufferSize = 16 << 10
            })
        let diary = Diary()
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096) { connection in
            diary.follow(connection)
            if state == .`paused in onConnection` { connection.pause() }
        }
        diary.follow(connection)
        try enter(state, scene, connection, peer, diary)
        let before = diary.events
        let start = monotonicTime()
        try peer.reset()
        try scene.loop.run(until: { diary.isClosed })
        // 2 seconds are promised; the rest is for a busy machine.
        #expect(monotonicTime() - start < .seconds(4))
        #expect(diary.events == before + [.close(.peerReset)], "nothing is delivered while it is paused")
        diary.expectOrder()
    }

    private func enter(
        _ state: State, _ scene: StepStage, _ connection: Connection, _ peer: PlainClient, _ diary: Diary
    ) throws {
        if [.`FIN told, half-open`, .`FIN told, half-open, queue full`].contains(state) {
            try peer.halfClose()
            try scene.loop.run(until: { diary.count(of: .end) == 1 })
        } else if state != .`paused in onConnection` {
            connection.pause()
        }
        switch state {
        case .`data unread`: try peer.send("unread")
        case .`data and FIN unread`:
            try peer.send("unread")
            try peer.halfClose()
        case .`queue full`, .`FIN told, half-open, queue full`: connection.fillQueue(to: 1 << 20)
        case .`our FIN sent`, .`our FIN sent, data unread`:
            connection.end()
            try scene.run { try peer.expectEnd() }
            if state == .`our FIN sent, data unread` { try peer.send("unread") }
        default: break
        }
        try peer.waitUntilAcknowledged()
        try scene.settle()
    }

    @Test(arguments: Engine.allCases)
    func `is noticed also of one that was paused long before, beside others that live on`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let pairs = try (0..<5).map { _ in try scene.connect { $0.pause() } }
        let connections = pairs.map(\.connection)
        for (index, pair) in pairs.enumerated().dropLast() {
            try pair.peer.reset()
            try scene.runUntilClosed(pair.connection)
            #expect(scene.reason(of: pair.connection) == .peerReset)
            #expect(connections[(index + 1)...].allSatisfy { scene.reason(of: $0) == nil })
        }
        // The last one was never reset, and still works.
        let (last, peer) = try #require(pairs.last)
        echo(last)
        last.resume()
        try scene.run { try peer.echoExactly(10_000) }
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `FIN alone waits for resume, behind the data, over several looks`(engine: Engine, ended: Bool) throws {
        let scene = try StepStage(engine, .connections { $0.allowsHalfOpen = true })
        let diary = Diary()
        let (connection, peer) = try scene.connect { $0.pause() }
        diary.follow(connection)
        try peer.send("before the end")
        try peer.halfClose()
        // With both FINs sent, poll(2) says POLLHUP.
        if ended { connection.end() }
        var looks = 0
        scene.loop.schedule(after: .milliseconds(2_200)) { _ in looks += 1 }
        try scene.loop.run(until: { looks == 1 })
        #expect(diary.events == [])
        connection.resume()
        try scene.loop.run(until: { diary.count(of: .end) == 1 })
        if !ended { connection.end() }
        try scene.loop.run(until: { diary.isClosed })
        #expect(diary.events == [.data(14), .end, .close(ended ? .localClose : .peerClosed)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `looking costs at most one turn a second, and ends with the last of them`(engine: Engine) throws {
        var options = EventLoop.Options()
        options.collectsMetrics = true
        let scene = try StepStage(engine, loop: options)
        let pairs = try (0..<50).map { _ in try scene.connect { $0.pause() } }
        try scene.settle()
        func turns(in time: Duration) throws -> UInt64 {
            let before = scene.loop.metrics.turns
            scene.loop.schedule(after: time) { [loop = scene.loop] _ in loop.stop() }
            try scene.loop.run()
            return scene.loop.metrics.turns - before
        }
        // One for each second that has begun, one for the end of the measurement.
        #expect(try turns(in: .milliseconds(2_300)) <= 4)
        for pair in pairs { pair.connection.resume() }
        _ = try turns(in: .milliseconds(1_100))
        #expect(try turns(in: .milliseconds(1_500)) <= 2, "nobody is paused any more")
    }
}

/// Unix sockets know no RST: a peer that goes away is at its end, or, if it has left bytes unread, ECONNRESET
/// (unix(7)).
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 11: a paused Unix connection` {
    @Test(arguments: Engine.allCases, [true, false])
    func `whose peer goes away is told after resume, behind the data`(engine: Engine, unread: Bool) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "socket")
        var options = EventLoop.Options()
        options.collectsMetrics = true
        let loop = try EventLoop(engine: engine, options: options)
        let diary = Diary()
        var accepted: Connection?
        let listener = try loop.listen(on: .unix(path: path)) { connection in
            diary.follow(connection)
            connection.pause()
            accepted = connection
        }
        let peer = try PlainClient(unixPath: path)
        try loop.run(until: { accepted != nil })
        let connection = try #require(accepted)
        if unread { try peer.send("unread") }
        peer.close()
        for _ in 0..<30 { try loop.run(.noWait) }
        let before = loop.metrics.turns
        loop.schedule(after: .milliseconds(2_200)) { _ in loop.stop() }
        try loop.run()
        #expect(loop.metrics.turns - before <= 4, "no spinning")
        #expect(diary.events == [])
        connection.resume()
        try loop.run(until: { diary.isClosed })
        #expect(diary.events == (unread ? [.data(6)] : []) + [.end, .close(.peerClosed)])
        diary.expectOrder()
        listener.close()
    }

    @Test(arguments: Engine.allCases)
    func `whose peer goes away with bytes unread is reset`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "socket")
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        var accepted: Connection?
        let listener = try loop.listen(on: .unix(path: path)) { connection in
            diary.follow(connection)
            connection.pause()
            connection.write("never read")
            accepted = connection
        }
        let peer = try PlainClient(unixPath: path)
        try loop.run(until: { accepted != nil })
        try peer.waitUntilReadable()
        peer.close()
        try loop.run(until: { diary.isClosed })
        #expect(diary.events == [.close(.peerReset)])
        listener.close()
    }
}
