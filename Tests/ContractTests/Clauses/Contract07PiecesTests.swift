import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 7: several pieces in one write` {
    /// Where it is called, and whether it has a completion.
    enum Style: CaseIterable {
        case inside, outside, insideWithCompletion, outsideWithCompletion

        var isInside: Bool { self == .inside || self == .insideWithCompletion }
        var hasCompletion: Bool { self == .insideWithCompletion || self == .outsideWithCompletion }

        /// Runs `body` where it belongs: in a callback, or outside of any.
        func perform(_ scene: StepStage, _ body: @escaping () -> Void) throws {
            guard isInside else { return body() }
            var isDone = false
            scene.loop.schedule(after: .zero) { _ in
                body()
                isDone = true
            }
            try scene.loop.run(until: { isDone })
        }

        func write(
            _ pieces: [[UInt8]], to connection: Connection, _ completion: @escaping (WriteResult) -> Void
        ) -> WriteStatus {
            hasCompletion ? connection.write(pieces, completion: completion) : connection.write(pieces)
        }
    }

    @Test(arguments: Engine.allCases, Style.allCases)
    func `1,000 small ones are at most 2 system calls`(engine: Engine, style: Style) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        var results: [WriteResult] = []
        var status: WriteStatus?
        let pieces = (0..<1_000).map { [UInt8](repeating: UInt8($0 & 255), count: 16) }
        try style.perform(scene) { status = style.write(pieces, to: connection) { results.append($0) } }
        #expect(status == .flowing)
        #expect(results == [], "no callback runs inside a call")
        // Outside of callbacks they have left already, though the loop does not run.
        #expect(isEqual(try peer.receive(exactly: 16_000), pieces.flatMap { $0 }))
        #expect((1...2).contains(try receivedDataSegments(peer.descriptor)))
        try scene.settle()
        #expect(results == (style.hasCompletion ? [.sent] : []))
    }

    @Test(arguments: Engine.allCases, Style.allCases)
    func `small, large and empty ones keep their order, also behind a queue`(engine: Engine, style: Style) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 32 << 10 })
        let (connection, peer) = try scene.connect()
        var random = SplitMix64(seed: 77)
        var expected: [UInt8] = []
        var completed: [Int] = []
        let sizes = [0, 0, 1, 3, 100, 1_000, 16_384, 16_385, 70_000]
        for number in 0..<60 {
            let pieces = (0..<Int.random(in: 0...12, using: &random)).map { index in
                pseudoRandomBytes(
                    count: sizes.randomElement(using: &random)!, seed: UInt64(number * 100 + index))
            }
            // Not `joined()`, which goes byte by byte: under the thread sanitizer that took minutes.
            for piece in pieces { expected += piece }
            try style.perform(scene) {
                let status = style.write(pieces, to: connection) { result in
                    #expect(result == .sent)
                    completed.append(number)
                }
                #expect(status == (connection.bufferedByteCount < 65_536 ? .flowing : .saturated))
            }
        }
        #expect(connection.bufferedByteCount > 0, "some had a queue before them")
        connection.end()
        let received = try scene.run { try peer.receiveUntilEnd() }
        #expect(isEqual(received, expected))
        peer.close()
        try scene.runUntilClosed(connection)
        #expect(completed == (style.hasCompletion ? Array(0..<60) : []))
    }

    @Test(arguments: Engine.allCases, Style.allCases)
    func `none at all, or only empty ones, send nothing`(engine: Engine, style: Style) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        var results: [WriteResult] = []
        for pieces in [[], [[]], [[], [], []]] as [[[UInt8]]] {
            try style.perform(scene) {
                #expect(style.write(pieces, to: connection) { results.append($0) } == .flowing)
            }
        }
        try scene.settle()
        #expect(results.count == (style.hasCompletion ? 3 : 0))
        #expect(connection.bytesWritten == 0)
        connection.end()
        try scene.run { try peer.expectEnd() }
    }

    @Test(arguments: Engine.allCases, Style.allCases)
    func `flowing or saturated is said of the queue that is left, and onDrain runs once for saturated only`(
        engine: Engine, style: Style
    ) throws {
        let scene = try StepStage(
            engine,
            .connections {
                $0.highWaterMark = 1_000; $0.lowWaterMark = 10
            })
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        var drains = 0
        connection.onDrain = { _ in drains += 1 }
        var status: WriteStatus?
        // The kernel takes them, but in a callback they are queued until it returns.
        let pieces = [[UInt8]](repeating: [UInt8](repeating: 1, count: 200), count: 10)
        try style.perform(scene) { status = style.write(pieces, to: connection) { _ in } }
        try scene.settle()
        #expect(status == (style.isInside ? .saturated : .flowing))
        #expect(drains == (style.isInside ? 1 : 0))
        drains = 0
        let many = [[UInt8]](repeating: [UInt8](repeating: 1, count: 10_000), count: 800)
        try style.perform(scene) { status = style.write(many, to: connection) { _ in } }
        #expect(status == .saturated)
        #expect(connection.bufferedByteCount > 1_000)
        try scene.settle()
        #expect(drains == 0)
        try scene.run { _ = try peer.receive(exactly: 2_000 + 8_000_000) }
        try scene.settle()
        #expect(drains == 1)
    }

    @Test(arguments: Engine.allCases, Style.allCases)
    func `after end or close they are refused, and have no completion`(engine: Engine, style: Style) throws {
        let scene = try StepStage(engine)
        let (ended, endedPeer) = try scene.connect()
        let (closed, _) = try scene.connect()
        var completions = 0
        ended.end()
        closed.close()
        try scene.runUntilClosed(closed)
        for connection in [ended, closed] {
            for pieces in [[[1], [2]], [], [[]]] as [[[UInt8]]] {
                try style.perform(scene) {
                    #expect(style.write(pieces, to: connection) { _ in completions += 1 } == .closed)
                }
            }
        }
        endedPeer.close()
        try scene.runUntilClosed(ended)
        #expect(completions == 0)
    }

    @Test(arguments: Engine.allCases, [10, 30_000])
    func `a write that meets the peer's reset itself has no completion, those before it fail`(
        engine: Engine, size: Int
    ) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect()
        let name = connection.descriptor
        try peer.reset()
        waitForHangUp(name)
        var results: [String] = []
        let pieces = [[UInt8]](repeating: [UInt8](repeating: 1, count: size), count: 3)
        #expect(connection.write(pieces) { results.append("one \($0)") } == .closed)
        #expect(connection.write(pieces) { results.append("two \($0)") } == .closed)
        try scene.runUntilClosed(connection)
        #expect(results == [])
        #expect(scene.reason(of: connection) == .peerReset)
    }

    @Test(arguments: Engine.allCases)
    func `what could not be sent any more fails once`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect(receiveBuffer: 4_096)
        var results: [WriteResult] = []
        let pieces = [[UInt8]](repeating: [UInt8](repeating: 1, count: 10_000), count: 800)
        for _ in 0..<3 { connection.write(pieces) { results.append($0) } }
        #expect(connection.bufferedByteCount > 0)
        try peer.reset()
        try scene.runUntilClosed(connection)
        #expect(results.count == 3)
        #expect(results.last == .failed(.peerReset))
    }
}
