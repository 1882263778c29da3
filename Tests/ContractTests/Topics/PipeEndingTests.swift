import CallbackServer
import TestSupport
import Testing

/// What goes through a pipe besides bytes: ends, resets, closes, pauses and time-outs.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The end of a pipe` {
    enum Side: CaseIterable { case source, target }

    @Test(arguments: Engine.allCases, [true, false])
    func `a half-close passes through, one way and then the other`(engine: Engine, halfOpen: Bool) throws {
        let scene = try StepStage(engine, .connections { $0.allowsHalfOpen = halfOpen })
        let (left, leftPeer) = try scene.connect()
        let (right, rightPeer) = try scene.connect()
        left.pipe(to: right)
        right.pipe(to: left)
        try scene.run {
            try leftPeer.send("question")
            try leftPeer.halfClose()
            #expect(try rightPeer.receiveUntilEnd() == Array("question".utf8))
        }
        try scene.settle()
        #expect(scene.reason(of: left) == nil && scene.reason(of: right) == nil, "the answer is still to come")
        try scene.run {
            try rightPeer.send("answer")
            try rightPeer.halfClose()
            #expect(try leftPeer.receiveUntilEnd() == Array("answer".utf8))
        }
        try scene.runUntilClosed(left, right)
        #expect(scene.reason(of: left) == .peerClosed)
        #expect(scene.reason(of: right) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `one way only, the end passes, and each side closes when its own peer has finished`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect()
        source.pipe(to: target)
        // The reader finishes first: a target goes on writing.
        try reader.halfClose()
        try scene.settle()
        try scene.run {
            try sender.send("all")
            try sender.halfClose()
            #expect(try reader.receiveUntilEnd() == Array("all".utf8))
        }
        try scene.runUntilClosed(source, target)
        #expect(scene.reason(of: source) == .peerClosed)
        #expect(scene.reason(of: target) == .peerClosed)
        try sender.expectEnd()
    }

    @Test(arguments: Engine.allCases, combined(Side.allCases, [true, false]))
    func `a reset of either side resets the other`(engine: Engine, how: (side: Side, busy: Bool)) throws {
        let (side, busy) = how
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let (left, leftPeer) = try scene.connect()
        let (right, rightPeer) = try scene.connect(receiveBuffer: 4_096)
        left.pipe(to: right)
        right.pipe(to: left)
        // Busy, the source is paused by its pipe, since the target's queue is full.
        if busy { try scene.flood(leftPeer) }
        let (dying, surviving) = side == .source ? (leftPeer, rightPeer) : (rightPeer, leftPeer)
        try dying.reset()
        try scene.runUntilClosed(left, right)
        #expect(scene.reason(of: left) == (side == .source ? .peerReset : .localReset))
        #expect(scene.reason(of: right) == (side == .target ? .peerReset : .localReset))
        #expect(try surviving.receiveUntilOver().ending == .reset, "RST, not FIN")
    }

    @Test(arguments: Engine.allCases)
    func `close of a source that has not ended flushes it and resets the target`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect()
        source.pipe(to: target)
        let bytes = pseudoRandomBytes(count: 300_000, seed: 7)
        source.write(bytes)
        try scene.run { try sender.send("a part of") }
        try scene.loop.run(until: { target.bytesWritten == 9 })
        source.close()
        try scene.run {
            #expect(try sender.receiveUntilEnd() == bytes)
            let received = try reader.receiveUntilOver()
            #expect(received.bytes == Array("a part of".utf8) && received.ending == .reset)
        }
        try scene.runUntilClosed(source, target)
        #expect(scene.reason(of: source) == .localClose)
        #expect(scene.reason(of: target) == .localReset)
    }

    @Test(arguments: Engine.allCases)
    func `close of a target flushes and closes its source, to which no pipe leads`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect()
        source.pipe(to: target)
        let bytes = pseudoRandomBytes(count: 300_000, seed: 8)
        source.write(bytes)
        target.close()
        try scene.run {
            #expect(try sender.receiveUntilEnd() == bytes)
            try reader.expectEnd()
        }
        try scene.runUntilClosed(source, target)
        #expect(scene.reason(of: source) == .localClose)
        #expect(scene.reason(of: target) == .localClose)
    }

    @Test(arguments: Engine.allCases)
    func `close of one side of a pipe both ways resets the other, whose answer is not whole`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (left, leftPeer) = try scene.connect()
        let (right, rightPeer) = try scene.connect()
        left.pipe(to: right)
        right.pipe(to: left)
        right.close()
        try scene.runUntilClosed(left, right)
        try rightPeer.expectEnd()
        try leftPeer.expectReset()
    }

    @Test(arguments: Engine.allCases, Side.allCases)
    func `reset of either side by its user resets the other`(engine: Engine, side: Side) throws {
        let scene = try StepStage(engine)
        let (left, leftPeer) = try scene.connect()
        let (right, rightPeer) = try scene.connect()
        left.pipe(to: right)
        (side == .source ? left : right).reset()
        try scene.runUntilClosed(left, right)
        #expect(scene.reason(of: left) == .localReset)
        #expect(scene.reason(of: right) == .localReset)
        try leftPeer.expectReset()
        try rightPeer.expectReset()
    }

    @Test(arguments: Engine.allCases)
    func `a source that has ended before it is piped ends its target`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.allowsHalfOpen = true })
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect()
        var hasEnded = false
        source.onEnd = { _ in hasEnded = true }
        try sender.halfClose()
        try scene.loop.run(until: { hasEnded })
        source.pipe(to: target)
        try scene.run { try reader.expectEnd() }
        reader.close()
        source.end()
        try scene.runUntilClosed(source, target)
    }

    /// When a connection that is going away becomes a source or a target.
    enum Moment: CaseIterable { case closed, `in its onClose`, closing }

    @Test(arguments: Engine.allCases, combined(Side.allCases, Moment.allCases))
    func `a connection on its way out takes the other with it, a closed one does not`(
        engine: Engine, how: (side: Side, moment: Moment)
    ) throws {
        let (side, moment) = how
        let scene = try StepStage(engine)
        let (gone, _) = try scene.connect()
        let (other, otherPeer) = try scene.connect()
        var isClosed = false
        func pipe() { if side == .source { gone.pipe(to: other) } else { other.pipe(to: gone) } }
        gone.onClose = { _, _ in
            isClosed = true
            if moment == .`in its onClose` { pipe() }
        }
        gone.reset()
        if moment == .closing { pipe() }
        try scene.loop.run(until: { isClosed })
        if moment == .closed {
            pipe()
            try scene.settle()
            #expect(scene.reason(of: other) == nil)
            // Left as it was: it ends as any connection does.
            try otherPeer.halfClose()
            try scene.runUntilClosed(other)
            #expect(scene.reason(of: other) == .peerClosed)
        } else {
            try scene.runUntilClosed(other)
            #expect(scene.reason(of: other) == .localReset)
            try otherPeer.expectReset()
        }
    }

    @Test(arguments: Engine.allCases)
    func `paused by its user, a source stays paused although the target drains`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect(receiveBuffer: 4_096)
        source.pipe(to: target)
        try scene.flood(sender)
        // The pipe has paused it already.
        source.pause()
        let read = source.bytesRead
        try scene.run { _ = try reader.receive(exactly: Int(read)) }
        try scene.settle()
        #expect(target.bufferedByteCount == 0)
        #expect(source.bytesRead == read, "pause() holds until resume()")
        source.resume()
        try scene.loop.run(until: { source.bytesRead > read })
        // And again, while nothing is queued.
        source.pause()
        let later = source.bytesRead
        try scene.run { _ = try reader.receive(exactly: Int(later - read)) }
        try scene.settle()
        #expect(source.bytesRead == later)
        try sender.reset()
        try scene.runUntilClosed(source, target)
    }

    @Test(arguments: Engine.allCases)
    func `resumed by its user, a source still waits for the target`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let (source, sender) = try scene.connect()
        let (target, reader) = try scene.connect(receiveBuffer: 4_096)
        source.pipe(to: target)
        try scene.flood(sender)
        for round in 0..<40 {
            if round.isMultiple(of: 2) { source.pause() }
            source.resume()
            try scene.settle(turns: 3)
        }
        #expect(target.bufferedByteCount <= `A pipe`.longestQueue)
        // The pipe goes on by itself.
        let read = source.bytesRead
        try scene.run { _ = try reader.receive(exactly: Int(read)) }
        try scene.loop.run(until: { source.bytesRead > read })
        try sender.reset()
        try scene.runUntilClosed(source, target)
    }

    @Test(arguments: Engine.allCases)
    func `a time-out of the source resets the target`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (source, sender) = try scene.connect { $0.options.timeouts.idle = .milliseconds(30) }
        let (target, reader) = try scene.connect()
        source.pipe(to: target)
        try scene.runUntilClosed(source, target)
        #expect(scene.reason(of: source) == .timedOut(.idle))
        #expect(scene.reason(of: target) == .localReset)
        try sender.expectEnd()
        try reader.expectReset()
    }

    @Test(arguments: Engine.allCases)
    func `a target that takes nothing times out, its source never by reading`(engine: Engine) throws {
        let scene = try StepStage(engine, .connections { $0.sendBufferSize = 16 << 10 })
        let (source, sender) = try scene.connect { $0.options.timeouts.read = .milliseconds(60) }
        let (target, _) = try scene.connect(receiveBuffer: 4_096)
        source.onTimeout = { _, _ in .keep }
        source.pipe(to: target)
        try scene.flood(sender)
        var readTimeouts = 0
        source.onTimeout = { _, _ in
            readTimeouts += 1
            return .keep
        }
        target.options.timeouts.write = .milliseconds(200)
        try scene.runUntilClosed(source, target)
        #expect(scene.reason(of: target) == .timedOut(.write))
        #expect(scene.reason(of: source) == .localReset)
        #expect(readTimeouts == 0, "it is not reading while its pipe has it paused")
        #expect(try sender.receiveUntilOver().ending == .reset)
    }
}
