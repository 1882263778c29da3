import CallbackServer
import Glibc
import TestSupport
import Testing

/// Peers that do not answer, and how long they are waited for.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Connecting: time-outs` {
    @Test(arguments: Engine.allCases)
    func `onTimeout is asked, then the connection closes`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let begin = monotonicTime()
        let connection = try diary.follow { try loop.connect(to: peer.address, options: .timeout(.milliseconds(40))) }
        connection.write("kept", completion: diary.completion())
        let name = try connection.kernelName
        try loop.run()
        #expect(monotonicTime() - begin >= .milliseconds(40))
        let reason = CloseReason.timedOut(.connect)
        #expect(diary.events == [.timeout(.connect), .completion(0, .failed(reason)), .close(reason)])
        #expect(connection.bytesUnsent == 4)
        #expect(try !isOpen(kernelName: name))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `without onTimeout it closes as well`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        var reasons: [CloseReason] = []
        let connection = try loop.connect(to: peer.address, options: .timeout(.milliseconds(10)))
        connection.onClose = { reasons.append($1) }
        try loop.run()
        #expect(reasons == [.timedOut(.connect)])
    }

    @Test(arguments: Engine.allCases)
    func `keep counts anew each time`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        var moments = [monotonicTime()]
        diary.reactions.timeout = { _, _ in
            moments.append(monotonicTime())
            return moments.count < 4 ? .keep : .close
        }
        try diary.follow { try loop.connect(to: peer.address, options: .timeout(.milliseconds(20))) }
        try loop.run()
        #expect(diary.events == Array(repeating: .timeout(.connect), count: 3) + [.close(.timedOut(.connect))])
        // From the beginning, since a callback may itself be late.
        for (number, moment) in moments.enumerated() {
            #expect(moment - moments[0] >= .milliseconds(20 * number))
        }
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a connection that was kept opens when the peer answers`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        diary.reactions.timeout = { [listener = peer.listener] _, _ in
            // Makes room in the backlog; the kernel sends its SYN again after a second (RFC 6298).
            if diary.events.count == 1 { #expect(throws: Never.self) { try listener.accept().close() } }
            return .keep
        }
        diary.reactions.open = { $0.close() }
        try diary.follow { try loop.connect(to: peer.address, options: .timeout(.milliseconds(50))) }
        try loop.run(until: { diary.isClosed })
        let events = diary.events.filter { $0 != .timeout(.connect) }
        #expect(events == [.open, .close(.localClose)])
        #expect(diary.events.suffix(2) == events[...], "no connect time-out after onOpen")
    }

    @Test(arguments: Engine.allCases)
    func `it is not early for a loop that has slept or computed before`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        // The loop reads its clock here, and not again before it runs.
        _ = loop.now
        compute(for: .milliseconds(60))
        let diary = Diary()
        var elapsed: Duration?
        let begin = monotonicTime()
        diary.reactions.timeout = { _, _ in
            elapsed = monotonicTime() - begin
            return .close
        }
        let connection = try diary.follow { try loop.connect(to: peer.address, options: .timeout(.milliseconds(50))) }
        #expect((Duration.zero ..< .milliseconds(50)).contains(connection.age))
        try loop.run()
        #expect(try #require(elapsed) >= .milliseconds(50))
    }

    @Test(arguments: Engine.allCases)
    func `it ends with onOpen`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        diary.reactions.open = { connection in
            // Longer than the time-out, which would have passed.
            loop.schedule(after: .milliseconds(80)) { _ in connection.close() }
        }
        try diary.follow { try loop.connect(to: server.address, options: .timeout(.milliseconds(30))) }
        try loop.run()
        // On a machine that stands still for 30 ms the time-out is right.
        #expect(diary.events == [.open, .close(.localClose)] || !diary.isOpen)
    }

    @Test(arguments: Engine.allCases)
    func `a connection that has ended its side times out all the same`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: peer.address, options: .timeout(.milliseconds(20))) }
        connection.write("question", completion: diary.completion())
        connection.end()
        try loop.run()
        let reason = CloseReason.timedOut(.connect)
        #expect(diary.events == [.timeout(.connect), .completion(0, .failed(reason)), .close(reason)])
    }

    @Test(arguments: Engine.allCases)
    func `its time can be changed while it counts`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: peer.address) }
        connection.options.timeouts.connect = .milliseconds(10)
        try loop.run(until: { diary.isClosed })
        #expect(diary.closeReason == .timedOut(.connect))
    }

    // MARK: Closing while it hangs

    @Test(arguments: Engine.allCases, [true, false])
    func `a hanging connection closes at once`(engine: Engine, byReset: Bool) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let connection = try diary.follow { try loop.connect(to: peer.address) }
        let name = try connection.kernelName
        for _ in 0..<5 { try loop.run(.noWait) }
        if byReset {
            connection.write("x", completion: diary.completion())
            connection.reset()
        } else {
            connection.close()
        }
        try loop.run()
        let reason = byReset ? CloseReason.localReset : .localClose
        #expect(diary.events == (byReset ? [.completion(0, .failed(reason))] : []) + [.close(reason)])
        #expect(try !isOpen(kernelName: name))
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `a close that has bytes to send waits no longer than its own time-out`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        let options = EventLoop.ConnectOptions.with { $0.connection.timeouts.close = .milliseconds(30) }
        let connection = try diary.follow { try loop.connect(to: peer.address, options: options) }
        connection.write("x", completion: diary.completion())
        connection.close()
        try loop.run(until: { diary.isClosed })
        let reason = CloseReason.timedOut(.close)
        #expect(diary.events == [.completion(0, .failed(reason)), .close(reason)])
        diary.expectOrder()
    }

    @Test(arguments: Engine.allCases)
    func `an age can be asked at any moment`(engine: Engine) throws {
        let peer = try HangingPeer()
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        diary.reactions.timeout = { _, _ in diary.events.count < 3 ? .keep : .close }
        loop.schedule(after: .milliseconds(5)) { _ in compute(for: .milliseconds(5)) }
        let connection = try diary.follow { try loop.connect(to: peer.address, options: .timeout(.milliseconds(10))) }
        #expect(connection.age >= .zero)
        var age: Duration?
        loop.schedule(after: .milliseconds(14)) { _ in age = connection.age }
        // All three are then due in one turn, whose clock stands while the first computes.
        compute(for: .milliseconds(30))
        try loop.run()
        #expect(try #require(age) >= .zero)
        #expect(diary.closeReason == .timedOut(.connect))
    }
}
