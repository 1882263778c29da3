import CallbackServer
import Glibc
import TestSupport
import Testing

/// Who is ended by this side before its time gets RST: FIN says "that was all", and a part would pass for the whole.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Ended before its time` {
    private static let limit = Duration.milliseconds(60)

    /// One whose peer does not read, with this many bytes written. With the default send buffer the kernel takes all.
    private func connectToDeaf(_ scene: StepStage, written: Int) throws -> (Connection, PlainClient) {
        let pair = try scene.connect(receiveBuffer: 4_096)
        pair.connection.write([UInt8](repeating: 1, count: written))
        return pair
    }

    @Test(arguments: Engine.allCases)
    func `a time-out sends FIN to those that have everything, and resets the others`(engine: Engine) throws {
        let scene = try StepStage(engine)
        // A server whose client has its answer; a proxy whose origin has begun one; bytes that nobody takes, queued and
        // with the kernel.
        let (answered, answeredPeer) = try scene.connect()
        let (origin, originPeer) = try scene.connect()
        let (client, clientPeer) = try scene.connect()
        let (queued, queuedPeer) = try connectToDeaf(scene, written: 64 << 20)
        let (taken, takenPeer) = try connectToDeaf(scene, written: 100_000)
        let (reset, resetPeer) = try scene.connect()
        #expect(queued.bufferedByteCount > 0 && taken.bufferedByteCount == 0)
        answered.write("all")
        origin.pipe(to: client)
        client.pipe(to: origin)
        try originPeer.send("a part")
        try scene.loop.run(until: { client.bytesWritten == 6 })
        reset.onTimeout = { _, _ in .reset }
        for connection in [answered, client, queued, taken, reset] { connection.options.timeouts.idle = Self.limit }
        try scene.runUntilClosed(answered, origin, client, queued, taken, reset)
        #expect(try answeredPeer.receiveUntilEnd() == Array("all".utf8))
        let part = try clientPeer.receiveUntilOver()
        #expect(part.bytes == Array("a part".utf8) && part.ending == .reset)
        for peer in [originPeer, queuedPeer, takenPeer, resetPeer] {
            #expect(try peer.receiveUntilOver().ending == .reset)
        }
        for connection in [answered, client, queued, taken, reset] {
            #expect(scene.reason(of: connection) == .timedOut(.idle))
        }
    }

    @Test(arguments: Engine.allCases)
    func `reset is what onTimeout may ask for while its own close flushes`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try connectToDeaf(scene, written: 64 << 20)
        connection.options.timeouts.close = .seconds(600)
        connection.onTimeout = { connection, _ in
            connection.close()
            return .reset
        }
        connection.options.timeouts.write = Self.limit
        try scene.runUntilClosed(connection)
        #expect(scene.reason(of: connection) == .timedOut(.write))
        #expect(try peer.receiveUntilOver().ending == .reset)
    }

    @Test(arguments: Engine.allCases)
    func `the target of a pipe whose source has ended is whole when it times out`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect()
        source.pipe(to: target)
        try sender.send("all")
        try sender.halfClose()
        try scene.loop.run(until: { target.bytesWritten == 3 })
        target.options.timeouts.idle = Self.limit
        try scene.runUntilClosed(target)
        #expect(scene.reason(of: target) == .timedOut(.idle))
        #expect(try reader.receiveUntilEnd() == Array("all".utf8))
    }

    @Test(arguments: Engine.allCases, [Listener.Forcing.reset, .close])
    func `a drain's deadline resets, or sends FIN to those that are owed nothing`(
        engine: Engine, forcing: Listener.Forcing
    ) throws {
        let scene = try StepStage(engine)
        let (resting, restingPeer) = try scene.connect()
        let (source, sourcePeer) = try scene.connect()
        let (target, targetPeer) = try scene.connect()
        let (queued, queuedPeer) = try connectToDeaf(scene, written: 64 << 20)
        source.pipe(to: target)
        resting.write("4 of")
        var report: DrainReport?
        scene.listener.drain(within: .milliseconds(1), forcing: forcing) { report = $0 }
        try scene.loop.run(until: { report != nil })
        #expect(report?.reasons == [.drainDeadline: 4])
        #expect(report?.forced == 4)
        #expect(report?.finished == 0)
        let rest = try restingPeer.receiveUntilOver()
        #expect(rest.bytes == Array("4 of".utf8))
        #expect(rest.ending == (forcing == .reset ? .reset : .end))
        #expect(try sourcePeer.receiveUntilOver().ending == (forcing == .reset ? .reset : .end))
        for peer in [targetPeer, queuedPeer] { #expect(try peer.receiveUntilOver().ending == .reset) }
        withExtendedLifetime((resting, source, target, queued)) {}
    }

    @Test(arguments: Engine.allCases)
    func `a report tells those that have everything from those that were cut off`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (whole, wholePeer) = try scene.connect()
        let (idle, idlePeer) = try scene.connect()
        let (cut, cutPeer) = try connectToDeaf(scene, written: 64 << 20)
        // Ended properly, then given up: its answer was still with the kernel.
        let (hungUp, hungUpPeer) = try connectToDeaf(scene, written: 100_000)
        hungUp.end()
        let (lost, lostPeer) = try scene.connect()
        for connection in [idle, cut] { connection.options.timeouts.idle = Self.limit }
        var report: DrainReport?
        scene.listener.drain(within: .seconds(600)) { report = $0 }
        hungUp.reset()
        try wholePeer.halfClose()
        try lostPeer.reset()
        try scene.loop.run(until: { report != nil })
        #expect(
            report?.reasons == [.peerClosed: 1, .timedOut(.idle): 2, .localClose: 1, .peerReset: 1])
        #expect(report?.finished == 2)
        #expect(report?.forced == 2)
        #expect(report?.broken == 1)
        withExtendedLifetime((whole, lost, idlePeer, cutPeer, hungUpPeer)) {}
    }

    @Test(arguments: Engine.allCases)
    func `a loop that is let go resets those that are owed something`(engine: Engine) throws {
        var peers: [PlainClient] = []
        do {
            let scene = try StepStage(engine)
            let (answered, answeredPeer) = try scene.connect()
            let (_, queuedPeer) = try connectToDeaf(scene, written: 64 << 20)
            let (source, _) = try scene.connect()
            let (target, targetPeer) = try scene.connect()
            answered.write("all")
            source.pipe(to: target)
            peers = [answeredPeer, queuedPeer, targetPeer]
        }
        #expect(try peers[0].receiveUntilEnd() == Array("all".utf8))
        for peer in peers.dropFirst() { #expect(try peer.receiveUntilOver().ending == .reset) }
    }
}
