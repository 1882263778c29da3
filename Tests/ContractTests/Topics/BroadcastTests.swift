import CallbackServer
import TestSupport
import Testing

/// A listener's connections, and a message to all of them.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A listener's connections` {
    @Test(arguments: Engine.allCases)
    func `are those that are open, the oldest first, and no other listener's`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (first, _) = try scene.connect()
        let (second, _) = try scene.connect()
        let (third, _) = try scene.connect()
        let other = try StepStage(engine)
        let another = try scene.loop.listen { _ in }
        #expect(scene.listener.connections == [first, second, third])
        #expect(another.connections == [] && other.listener.connections == [])
        second.close()
        try scene.runUntilClosed(second)
        #expect(scene.listener.connections == [first, third])
        #expect(Set(scene.listener.connections.map(\.id)).count == 2)
        #expect(Set([first, first, third]).count == 2)
    }

    @Test(arguments: Engine.allCases, [5, 100_000])
    func `all get a message but the one it came from`(engine: Engine, count: Int) throws {
        let scene = try StepStage(engine)
        let members = try (0..<5).map { _ in try scene.connect() }
        let message = [UInt8](repeating: 7, count: count)
        members[1].connection.write("before")
        members[4].connection.end()
        let written = scene.listener.broadcast(message, except: members[0].connection, whenSaturated: .skip)
        #expect(written == 3)
        scene.loop.schedule(after: .zero) { _ in
            #expect(scene.listener.broadcast([9], except: nil, whenSaturated: .write) == 4)
        }
        let peers = members.map(\.peer)
        let received = try scene.run {
            try peers[..<4].map { try $0.receive(exactly: $0 === peers[0] ? 1 : count + 1) }
        }
        #expect(received[0] == [9])
        #expect(received[1] == Array("before".utf8) + message.dropLast(5))
        #expect(received[2] == message + [9] && received[3] == message + [9])
    }

    @Test(arguments: combined(Engine.allCases, [Listener.WhenSaturated.skip, .write, .reset]))
    func `one that is saturated is treated as asked`(engine: Engine, policy: Listener.WhenSaturated) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 4_096 })
        let (quick, quickPeer) = try scene.connect()
        let (slow, slowPeer) = try scene.connect(receiveBuffer: 4_096)
        slow.fillQueue(to: 100_000)
        let queued = slow.bufferedByteCount
        let message = [UInt8](repeating: 7, count: 2_000)
        #expect(scene.listener.broadcast(message, whenSaturated: policy) == (policy == .write ? 2 : 1))
        #expect(slow.bufferedByteCount == (policy == .write ? queued + 2_000 : policy == .skip ? queued : 0))
        #expect(try scene.run { try quickPeer.receive(exactly: 2_000) } == message)
        if policy == .reset {
            try scene.runUntilClosed(slow)
            #expect(scene.reason(of: slow) == .localReset)
        } else {
            #expect(scene.reason(of: slow) == nil)
            // What was skipped is one message: when it has caught up, it gets the next.
            let sent = Int(slow.bytesWritten) + slow.bufferedByteCount
            _ = try scene.run { try slowPeer.receive(exactly: sent) }
            try scene.settle()
            #expect(scene.listener.broadcast(message, whenSaturated: policy) == 2)
        }
        withExtendedLifetime((quick, slowPeer)) {}
    }

    @Test(arguments: Engine.allCases)
    func `what only waits for the end of the callback makes no member slow`(engine: Engine) throws {
        let scene = try StepStage(
            engine,
            .connections {
                $0.highWaterMark = 4_096
                $0.lowWaterMark = 1_024
            })
        let (member, peer) = try scene.connect()
        scene.loop.schedule(after: .zero) { _ in
            for _ in 0..<20 {
                #expect(scene.listener.broadcast([UInt8](repeating: 7, count: 500), whenSaturated: .reset) == 1)
            }
        }
        #expect(try scene.run { try peer.receive(exactly: 10_000).count } == 10_000)
        #expect(scene.reason(of: member) == nil)
    }
}
