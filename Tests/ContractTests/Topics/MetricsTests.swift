import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Metrics` {
    private func measured() -> EventLoop.Options {
        var options = EventLoop.Options()
        options.collectsMetrics = true
        return options
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `are zeros unless asked for, also while slow callbacks are`(engine: Engine, warns: Bool) throws {
        let scene = try StepStage(engine)
        if warns { scene.loop.onSlowCallback(longerThan: .seconds(60)) { _ in } }
        let (connection, peer) = try scene.connect { echo($0) }
        try peer.send("x")
        try scene.loop.run(until: { connection.bytesRead == 1 })
        let metrics = scene.loop.metrics
        #expect(metrics.turns == 0)
        #expect(metrics.events == 0)
        #expect(metrics.callbacks == 0)
        #expect(metrics.timeAsleep == .zero)
        #expect(metrics.longestCallback == nil)
    }

    @Test(arguments: Engine.allCases)
    func `count turns, events and callbacks`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine, options: measured())
        #expect(loop.metrics.callbacks == 0 && loop.metrics.events == 0 && loop.metrics.longestCallback == nil)
        var fired = 0
        for number in 1...5 { loop.schedule(after: .milliseconds(number)) { _ in fired += 1 } }
        try loop.run()
        #expect(fired == 5)
        #expect(loop.metrics.callbacks == 5)
        #expect(loop.metrics.events == 5)
        #expect((1...20).contains(loop.metrics.turns))
        #expect(loop.metrics.longestCallback?.kind == .timer)
    }

    @Test(arguments: Engine.allCases)
    func `count each message as an event and a callback`(engine: Engine) throws {
        let scene = try StepStage(engine, loop: measured())
        let (connection, peer) = try scene.connect { echo($0) }
        let before = scene.loop.metrics
        let looks = Looks()
        let look = scene.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in looks.count += 1 }
        for count in 1...20 as ClosedRange<UInt64> {
            try peer.send("x")
            // No timer of `run(until:)`: each callback is counted here.
            while connection.bytesRead < count { try scene.loop.run(.once) }
        }
        look.cancel()
        let after = scene.loop.metrics
        #expect(after.callbacks - before.callbacks == 20 + looks.count)
        #expect(after.events - before.events == 20 + looks.count)
        #expect(after.turns - before.turns >= 20)
    }

    private final class Looks {
        var count: UInt64 = 0
    }

    @Test(arguments: Engine.allCases)
    func `tell how long the loop has slept`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine, options: measured())
        loop.schedule(after: .milliseconds(200)) { _ in observe(for: .milliseconds(100)) }
        let start = monotonicTime()
        try loop.run()
        let elapsed = monotonicTime() - start
        let asleep = loop.metrics.timeAsleep
        // The wait for the timer, and not what its callback took.
        #expect(asleep >= .milliseconds(190), "\(asleep)")
        #expect(asleep <= elapsed - .milliseconds(100), "\(asleep) of \(elapsed)")
    }

    private static let kinds = EventLoop.CallbackKind.allCases.filter { ![.signal, .group, .handshake].contains($0) }

    @Test(arguments: Engine.allCases, kinds)
    func `name the callback that ran for longest`(engine: Engine, kind: EventLoop.CallbackKind) throws {
        try SlowCallback(engine, options: measured()).expectIsNamed(kind)
    }

    @Test(arguments: Engine.allCases)
    func `name a signal's callback that ran for longest`(engine: Engine) async {
        // A signal's handler is the process's.
        await #expect(processExitsWith: .success) { [engine] in
            var options = EventLoop.Options()
            options.collectsMetrics = true
            try SlowCallback(engine, options: options).expectIsNamed(.signal)
        }
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A slow callback` {
    @Test(arguments: Engine.allCases)
    func `is told, and the others are not`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var told: [EventLoop.CallbackTime] = []
        loop.onSlowCallback(longerThan: .milliseconds(250)) { told.append($0) }
        var fired = 0
        loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { timer in
            fired += 1
            if fired == 10 { observe(for: .milliseconds(400)) }
            if fired == 20 { timer.cancel() }
        }
        try loop.run()
        #expect(told.map(\.kind) == [.timer])
        #expect(told.allSatisfy { $0.duration >= .milliseconds(400) && $0.duration < .seconds(60) }, "\(told)")
    }

    @Test(arguments: Engine.allCases)
    func `has been warned of: what the warning writes is sent before the loop sleeps`(engine: Engine) throws {
        let scene = try StepStage(engine)
        let (connection, peer) = try scene.connect { connection in
            connection.onData = { _, _ in observe(for: .milliseconds(20)) }
        }
        let (other, otherPeer) = try scene.connect()
        scene.loop.onSlowCallback(longerThan: .milliseconds(15)) { _ in
            connection.write("slow")
            other.write("slow")
            other.write(" indeed")
        }
        try peer.send("x")
        // No timer, so that nothing but what the peer sends wakes the loop.
        while connection.bytesRead == 0 { try scene.loop.run(.once) }
        #expect(try peer.receive(exactly: 4) == Array("slow".utf8))
        #expect(try otherPeer.receive(exactly: 11) == Array("slow indeed".utf8))
    }

    @Test(arguments: Engine.allCases)
    func `is told to the last who asked, also when asked from inside a callback`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var first = 0
        var told: [EventLoop.CallbackTime] = []
        let token = Token()
        weak var weakToken: Token?
        do {
            let token = Token()
            weakToken = token
            loop.onSlowCallback(longerThan: .milliseconds(250)) { _ in
                _ = token
                first += 1
            }
        }
        #expect(weakToken != nil)
        loop.schedule(after: .milliseconds(1)) { _ in
            loop.onSlowCallback(longerThan: .milliseconds(250)) { told.append($0) }
        }
        loop.schedule(after: .milliseconds(5)) { _ in observe(for: .milliseconds(300)) }
        try loop.run()
        withExtendedLifetime(token) {}
        #expect(weakToken == nil, "what was replaced is let go")
        #expect(first == 0)
        #expect(told.count == 1)
    }

    @Test(arguments: Engine.allCases)
    func `is measured from its own beginning, also the one that first asks`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var told: [EventLoop.CallbackTime] = []
        loop.schedule(after: .milliseconds(1)) { _ in
            loop.onSlowCallback(longerThan: .seconds(10)) { told.append($0) }
        }
        try loop.run()
        #expect(told == [])
    }

    @Test(arguments: Engine.allCases)
    func `takes more than no time at all`(engine: Engine) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [engine] in
            try EventLoop(engine: engine).onSlowCallback(longerThan: .zero) { _ in }
        }
        expectSentence(result, "0.0 seconds", "onSlowCallback")
    }
}

/// Makes one callback slow, and only that one, among all the others.
private final class SlowCallback {
    private let scene: StepStage
    private let slow = Slow()

    /// What the callbacks hold: not the scene, which holds them.
    private final class Slow {
        /// Longer than a busy machine keeps any other callback waiting.
        static let time = Duration.milliseconds(400)
        var isDone = false

        func run() {
            if isDone { return }
            observe(for: Self.time)
            isDone = true
        }
    }

    init(_ engine: Engine, options: EventLoop.Options) throws {
        var listening = Listener.Options.connections {
            $0.highWaterMark = 2
            $0.lowWaterMark = 0
            $0.allowsHalfOpen = true
        }
        listening.maxConnections = 2
        listening.beyondMaxConnections = .refuse
        var options = options
        options.maxQueuedBytes = 1 << 20
        scene = try StepStage(engine, loop: options, listening)
    }

    func expectIsNamed(_ kind: EventLoop.CallbackKind) throws {
        let kept = try begin(kind)
        try scene.loop.run(until: { [slow] in slow.isDone })
        withExtendedLifetime(kept) {}
        let longest = scene.loop.metrics.longestCallback
        #expect(longest?.kind == kind)
        #expect(longest?.duration ?? .zero >= Slow.time)
    }

    /// Brings about the callback; gives what must stay alive meanwhile.
    private func begin(_ kind: EventLoop.CallbackKind) throws -> [PlainClient] {
        switch kind {
        case .open, .data, .end, .drain, .timeout, .completion, .close, .connection, .overload:
            try beginConnected(kind)
        case .shed, .error, .drained: try beginListening(kind)
        case .timer, .signal, .resolved, .executed, .offloaded, .tasks: try beginAlone(kind)
        case .group: preconditionFailure("only the first loop of a group has it: GroupTests")
        case .handshake: preconditionFailure("only TLS has it: CallbackTLSTests")
        }
    }

    private func beginAlone(_ kind: EventLoop.CallbackKind) throws -> [PlainClient] {
        let (loop, slow) = (scene.loop, slow)
        switch kind {
        case .timer: loop.schedule(after: .milliseconds(1)) { _ in slow.run() }
        case .signal:
            try loop.onSignal(.user1) { watcher in
                slow.run()
                watcher.cancel()
            }
            kill(getpid(), SIGUSR1)
        case .resolved: try loop.resolve(host: "127.0.0.1", port: 80) { _ in slow.run() }
        case .tasks: loop.task { slow.run() }
        case .executed:
            let time = Slow.time
            let flag = Flag()
            let waker = loop.waker
            waker.execute {
                observe(for: time)
                flag.set()
            }
            loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
                guard flag.isSet else { return }
                slow.isDone = true
                timer.cancel()
            }
        default: try loop.offload({ 1 }, then: { _ in slow.run() })
        }
        return []
    }

    private func beginListening(_ kind: EventLoop.CallbackKind) throws -> [PlainClient] {
        let (listener, slow) = (scene.listener, slow)
        switch kind {
        case .shed:
            listener.onShed = { _, _ in slow.run() }
            return try [scene.connect().peer, scene.connect().peer, PlainClient(port: listener.port)]
        case .error:
            listener.onError = { _, _ in slow.run() }
            let socket = try #require(try listeningSocket(port: listener.port)).descriptor
            // Linux: the socket listens no more, and accept(2) says EINVAL.
            #expect(shutdown(socket, Int32(SHUT_RDWR)) == 0)
        default: listener.drain(within: .zero) { _ in slow.run() }
        }
        return []
    }

    private func beginConnected(_ kind: EventLoop.CallbackKind) throws -> [PlainClient] {
        let slow = slow
        if kind == .open {
            let connection = try scene.loop.connect(to: scene.listener.localAddress)
            connection.onOpen = { _ in slow.run() }
            return []
        }
        let (connection, peer) = try scene.connect { _ in if kind == .connection { slow.run() } }
        switch kind {
        case .data:
            connection.onData = { _, _ in slow.run() }
            try peer.send("x")
        case .end:
            connection.onEnd = { _ in slow.run() }
            try peer.halfClose()
        case .drain:
            connection.onDrain = { _ in slow.run() }
            scene.loop.schedule(after: .zero) { _ in connection.write("saturated") }
        case .timeout:
            connection.onTimeout = { _, _ in
                slow.run()
                return .close
            }
            connection.options.timeouts.idle = .milliseconds(1)
        case .completion: connection.write("x") { _ in slow.run() }
        case .overload:
            scene.loop.onOverload = { _ in slow.run() }
            // More than the kernel takes.
            connection.write([UInt8](repeating: 1, count: 32 << 20))
        case .close:
            connection.onClose = { _, _ in slow.run() }
            connection.close()
        default: break
        }
        return [peer]
    }
}
