import CallbackServer
import Glibc
import TestSupport
import Testing

/// A callback that takes long, while peers go on. Time-outs that passed meanwhile say nothing of these.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Stalls` {
    @Test(arguments: Engine.allCases)
    func `500 connections with each kind of time-out: none is closed whose peer was honest, and all others`(
        engine: Engine
    ) async {
        // 1,000 descriptors, which a process of its own may have.
        await #expect(processExitsWith: .success) { [engine] in
            let scene = try StallScene(engine)
            try scene.connectAll()
            try scene.stall()
            try scene.runUntilDecided()
            let closed = scene.closed.filter { $0.key.isHonest && $0.key.kind != .close }
            #expect(closed.isEmpty, "honest, and closed")
            #expect(scene.closed[.init(kind: .close, isHonest: true)] == [.localClose: StallScene.count(of: .close)])
            for kind in StallScene.kinds {
                let expected = [CloseReason.timedOut(kind): StallScene.count(of: kind)]
                let dead = scene.closed[.init(kind: kind, isHonest: false)] ?? [:]
                #expect(dead == expected, "\(kind), dead: \(dead)")
            }
            #expect(scene.opened == StallScene.count(of: .connect))
        }
    }

    @Test(arguments: Engine.allCases)
    func `who waits for the loop has the time of the stall once more`(engine: Engine) throws {
        let stage = try StepStage(engine)
        let (connection, peer) = try stage.connect()
        let (busy, trigger) = try stage.connect()
        let limit = Duration.milliseconds(200)
        var wasHeard = false
        connection.onData = { _, _ in wasHeard = true }
        busy.onData = { _, _ in
            connection.options.timeouts.idle = limit
            observe(for: .milliseconds(500))
        }
        // It says something only after the stall: the loop is told to look for it behind its time-outs.
        try trigger.send("x")
        stage.loop.schedule(after: .milliseconds(600)) { _ in _ = try? peer.sendSome([1]) }
        try stage.loop.run(until: { wasHeard || stage.reason(of: connection) != nil })
        #expect(stage.reason(of: connection) == nil)
        try stage.runUntilClosed(connection)
    }

    @Test(arguments: Engine.allCases)
    func `who has sent or read is not closed, though the time of one stall was made up for already`(
        engine: Engine
    ) throws {
        let stage = try StepStage(engine)
        let kinds = [TimeoutKind.idle, .read, .write, .close]
        let pairs = try kinds.map { _ in try stage.connect() }
        for (kind, pair) in zip(kinds, pairs) where kind == .write || kind == .close {
            pair.connection.fillQueue(to: 64 << 10)
        }
        let (busy, trigger) = try stage.connect()
        var stalls = 0
        busy.onData = { _, _ in
            stalls += 1
            if stalls == 1 {
                for (kind, pair) in zip(kinds, pairs) {
                    `Time-outs of each kind`.set(kind, of: pair.connection, to: .milliseconds(100))
                }
                pairs[3].connection.close()
                // The next turn stalls as well.
                try? trigger.send("x")
            } else {
                for (kind, pair) in zip(kinds, pairs) {
                    if kind == .idle || kind == .read {
                        _ = try? pair.peer.sendSome([1])
                    } else {
                        receiveAll(pair.peer)
                    }
                }
                busy.pause()
            }
            observe(for: .milliseconds(250))
        }
        for (kind, pair) in zip(kinds, pairs) {
            pair.connection.onTimeout = { _, _ in
                Issue.record("\(kind) has passed")
                return .close
            }
        }
        try trigger.send("x")
        try stage.loop.run(until: {
            stalls == 2 && pairs[0].connection.bytesRead == 1 && pairs[1].connection.bytesRead == 1
                && stage.reason(of: pairs[3].connection) != nil
        })
        #expect(stage.reason(of: pairs[3].connection) == .localClose)
        #expect(stage.reason(of: pairs[2].connection) == nil)
        for pair in pairs { pair.connection.reset() }
    }
}

/// Takes what the kernel holds for `peer`, and drops it.
private func receiveAll(_ peer: PlainClient) {
    var input = [UInt8](repeating: 0, count: 1 << 20)
    while recv(peer.descriptor, &input, input.count, Int32(MSG_DONTWAIT)) > 0 {}
}

/// 500 connections of one loop, in groups by time-out and by what their peers do.
private final class StallScene {
    struct Group: Hashable {
        let kind: TimeoutKind
        let isHonest: Bool
    }

    static let limit = Duration.seconds(1)
    static let kinds = TimeoutKind.allCases

    /// In each of the two groups of a kind. Where bytes are queued the kernel holds some MB of each.
    static func count(of kind: TimeoutKind) -> Int {
        switch kind {
        case .idle, .read: 80
        case .minimumRate: 40
        case .connect: 20
        case .write, .saturated, .close: 10
        }
    }

    private let loop: EventLoop
    private var listener: Listener?
    private var accepted: [Connection] = []
    private var members: [(group: Group, connection: Connection, peer: PlainClient)] = []
    /// A listener that never accepts: one client fills its queue, and the others wait for good.
    private let hanging: PlainListener
    private let first: PlainClient
    private let answering: PlainListener
    private var input = [UInt8](repeating: 0, count: 1 << 20)
    private var stallEnd: Duration?
    /// How many of a group have closed, for which reason.
    private(set) var closed: [Group: [CloseReason: Int]] = [:]
    private(set) var opened = 0

    init(_ engine: Engine) throws {
        loop = try EventLoop(engine: engine)
        hanging = try PlainListener(backlog: 0)
        first = try PlainClient(port: hanging.port)
        answering = try PlainListener()
        listener = try loop.listen { [unowned self] in accepted.append($0) }
    }

    private func connect() throws -> (connection: Connection, peer: PlainClient) {
        let count = accepted.count
        let peer = try PlainClient(port: listener?.port ?? 0)
        while accepted.count == count { try loop.run(.once) }
        return (accepted[count], peer)
    }

    /// Without a time-out so far.
    func connectAll() throws {
        for kind in Self.kinds where kind != .connect {
            for number in 0..<2 * Self.count(of: kind) {
                let group = Group(kind: kind, isHonest: number.isMultiple(of: 2))
                let (connection, peer) = try connect()
                connection.onClose = { [unowned self] _, reason in closed[group, default: [:]][reason, default: 0] += 1
                }
                fill(kind, connection)
                members.append((group, connection, peer))
            }
        }
    }

    /// Sets all time-outs, lets the honest peers act at once, and takes two seconds for it, in a callback of input:
    /// what comes meanwhile is not among what the engine has already fetched.
    func stall() throws {
        let (busy, trigger) = try connect()
        busy.onData = { [unowned self] busy, _ in
            for (group, connection, _) in members { begin(group.kind, connection) }
            beginConnecting()
            actHonestly(atFirst: true)
            observe(for: .seconds(2))
            stallEnd = monotonicTime()
            busy.reset()
        }
        try trigger.send("x")
        while stallEnd == nil { try loop.run(.once) }
    }

    private func fill(_ kind: TimeoutKind, _ connection: Connection) {
        switch kind {
        case .write, .saturated, .close: connection.fillQueue(to: 64 << 10)
        case .idle, .read, .minimumRate, .connect: break
        }
    }

    private func begin(_ kind: TimeoutKind, _ connection: Connection) {
        // The kernel's buffer may have grown meanwhile, and what it has taken waits for no time-out.
        fill(kind, connection)
        switch kind {
        case .idle: connection.options.timeouts.idle = Self.limit
        case .read: connection.options.timeouts.read = Self.limit
        case .write: connection.options.timeouts.write = Self.limit
        case .saturated: connection.options.timeouts.saturated = Self.limit
        case .minimumRate: connection.options.timeouts.minimumRate = .init(bytesPerSecond: 1, window: Self.limit)
        case .close:
            connection.options.timeouts.close = Self.limit
            connection.close()
        case .connect: break
        }
    }

    private func beginConnecting() {
        for number in 0..<2 * Self.count(of: .connect) {
            let group = Group(kind: .connect, isHonest: number.isMultiple(of: 2))
            let port = Int(group.isHonest ? answering.port : hanging.port)
            var options = EventLoop.ConnectOptions()
            options.connection.timeouts.connect = Self.limit
            // Every fourth by the way of hosts, which are resolved and raced.
            let connection =
                number % 4 < 2
                ? try? loop.connect(to: .ipv4("127.0.0.1", port: port), options: options)
                : try? loop.connect(host: "127.0.0.1", port: port, options: options)
            connection?.onOpen = { [unowned self] _ in opened += 1 }
            connection?.onClose = { [unowned self] _, reason in closed[group, default: [:]][reason, default: 0] += 1 }
        }
    }

    private func actHonestly(atFirst: Bool = false) {
        for (group, _, peer) in members where group.isHonest {
            switch group.kind {
            case .idle, .read, .minimumRate: _ = try? peer.sendSome([1])
            // All of it, so that the kernel has room; then some at a time.
            case .write, .saturated, .close:
                repeat {} while recv(peer.descriptor, &input, input.count, Int32(MSG_DONTWAIT)) > 0 && atFirst
            case .connect: break
            }
        }
    }

    private var isDecided: Bool {
        let isOver = Self.kinds.allSatisfy { kind in
            let count = closed[Group(kind: kind, isHonest: false)]?.values.reduce(0, +) ?? 0
            return count == Self.count(of: kind)
        }
        let closing = closed[Group(kind: .close, isHonest: true)]?.values.reduce(0, +) ?? 0
        return isOver && closing == Self.count(of: .close) && opened == Self.count(of: .connect)
    }

    /// Runs for as long as the dead may take, and longer on a machine that has no time for them.
    func runUntilDecided() throws {
        let acting = loop.schedule(after: .zero, repeating: .milliseconds(50)) { [unowned self] _ in
            for (group, connection, _) in members where group.isHonest && group.kind == .write {
                connection.fillQueue(to: 64 << 10)
            }
            actHonestly()
        }
        let end = monotonicTime() + .seconds(20)
        let looking = loop.schedule(after: Self.limit * 3 / 2, repeating: .milliseconds(20)) { [unowned self] _ in
            if isDecided || monotonicTime() > end { loop.stop() }
        }
        try loop.run()
        acting.cancel()
        looking.cancel()
    }
}
