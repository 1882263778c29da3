import CallbackServer
import TestSupport
import Testing

/// `Connection.Options.maxQueuedBytes`: a cap on the queue of one connection.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A cap on one queue` {
    @Test(arguments: Engine.allCases, [true, false])
    func `beyond it the connection is reset, and no other`(engine: Engine, inCallback: Bool) throws {
        let scene = try StepStage(
            engine,
            .connections {
                $0.sendBufferSize = 4_096
                $0.maxQueuedBytes = 200_000
            })
        let (greedy, greedyPeer) = try scene.connect(receiveBuffer: 4_096)
        let (modest, modestPeer) = try scene.connect(receiveBuffer: 4_096)
        modest.fillQueue(to: 200_000)
        greedy.fillQueue(to: 200_000)
        try scene.settle()
        #expect(scene.reason(of: modest) == nil && scene.reason(of: greedy) == nil, "at the cap")
        var status: WriteStatus?
        let write = { status = greedy.write([UInt8](repeating: 1, count: 100_000)) }
        if inCallback { scene.loop.schedule(after: .zero) { _ in write() } } else { write() }
        try scene.runUntilClosed(greedy)
        #expect(status == .closed)
        #expect(scene.reason(of: greedy) == .shed)
        #expect(try greedyPeer.receiveUntilOver().ending == .reset)
        #expect(scene.reason(of: modest) == nil)
        withExtendedLifetime(modestPeer) {}
    }

    @Test(arguments: Engine.allCases)
    func `counts before the connection is open, too`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try PlainListener()
        var options = EventLoop.ConnectOptions()
        options.connection.maxQueuedBytes = 100_000
        let client = try loop.connect(host: "127.0.0.1", port: Int(listener.port), options: options)
        var reason: CloseReason?
        client.onClose = { reason = $1 }
        #expect(client.write([UInt8](repeating: 1, count: 100_001)) == .closed)
        try loop.run()
        #expect(reason == .shed)
    }

    @Test(arguments: Engine.allCases)
    func `less than the high water mark is refused by its value`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let error = #expect(throws: IOError.self) {
            try loop.listen(options: .connections { $0.maxQueuedBytes = 65_535 }) { _ in }
        }
        #expect(error?.detail?.contains("maxQueuedBytes 65535") == true)
    }
}
