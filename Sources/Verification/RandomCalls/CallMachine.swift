internal import CallbackModel
internal import Glibc
internal import ParityKit

/// Plays one sequence: loops one after the other, what lives in them, and their peers.
final class CallMachine {
    let overseer = Overseer()
    var tape: Tape
    /// Nothing once it was let go.
    var loop: EventLoop?
    var options = ChosenOptions()

    // What the user holds. Of earlier loops too: every call on them does nothing.
    var connections: [CalledConnection] = []
    var listeners: [CalledListener] = []
    var timers: [CalledTimer] = []
    var watchers: [CalledWatcher] = []
    var holds: [EventLoop.Hold] = []
    /// Plain sockets: the other ends of some connections.
    var peers: [CalledPeer] = []
    /// Where sockets for `adopt` are connected to.
    var meetingPlace: PeerSocket?
    /// What was given to wakers, to other threads and to the resolver.
    var errands = Errands()

    private(set) var isRunning = false
    private(set) var isSettling = false
    private let participant: Participant
    var transport: Transport { participant.form.transport }
    private let limit: Duration
    var writesSteps = false
    private(set) var steps: [String] = []

    private static let slot = ThreadSlot<CallMachine>()
    /// For what comes from other threads and runs on this one.
    static var current: CallMachine? { slot.object }

    /// So many loops at most, one after the other.
    private static let mostLoops = 3
    /// So many calls at most in one callback.
    private static let mostReactions = 3
    /// Of so many turns few wait, each for a millisecond.
    private static let turnsForOneThatWaits = 24
    /// Between them the caller acts from outside of `run`.
    private static let mostOutsideCalls = 4

    init(_ sequence: [UInt8], _ participant: Participant, _ limit: Duration) {
        tape = Tape(sequence)
        self.participant = participant
        self.limit = limit
    }

    func note(_ step: @autoclosure () -> String) {
        if writesSteps { steps.append(step()) }
    }

    func play() {
        Self.slot.object = self
        defer { Self.slot.object = nil }
        // Callbacks run inside `run` and nowhere else.
        overseer.call("the user's own code") {
            let loops = 1 + tape.next(below: Self.mostLoops)
            for part in 0..<loops {
                tape.go(through: part, of: loops)
                playLoop()
            }
            letGoOfAll()
        }
    }

    private func playLoop() {
        errands = Errands()
        options = ChosenOptions(&tape)
        note("a loop: \(options)")
        do throws(IOError) {
            loop = try participant.makeLoop(options.loop)
        } catch {
            return overseer.report("making a loop failed: \(error)")
        }
        let ending = tape.next(below: Ending.allCases.count)
        let start = ContinuousClock.now
        listen()
        while !tape.isOver, loop != nil {
            for _ in 0..<1 + tape.next(below: Self.mostOutsideCalls) { act() }
            turn(Turn(rawValue: tape.next(below: Self.turnsForOneThatWaits)) ?? .noWait)
        }
        end(Ending.allCases[ending])
        if options.loop.collectsMetrics, let loop, let spinning = loop.metrics.spinning(for: .now - start) {
            overseer.report(spinning)
        }
        letGo()
        noticeLoop()
        for each in connections { each.look() }
        for each in peers { each.forgetName() }
    }

    /// Drops the reference to the loop, which goes with it, or, in a callback, at the end of `run`.
    func letGo() {
        note("let go of the loop")
        loop = nil
    }

    /// Between two calls: what has lived in a loop that is gone knows it.
    func noticeLoop() {
        guard loop == nil, !isRunning else { return }
        for each in connections { each.loopIsGone() }
        for each in timers { each.loopIsGone() }
        for each in listeners { each.loopIsGone() }
        for each in watchers { each.loopIsGone() }
    }

    // MARK: Turns

    func turn(_ turn: Turn) {
        // Settling takes thousands where the kernel waits for its own timers.
        if !isSettling { note("run: \(turn)") }
        isRunning = true
        run(turn)
        isRunning = false
        for each in peers { each.advance() }
        noticeLoop()
    }

    private func run(_ turn: Turn) {
        guard let loop else { return }
        overseer.run {
            do throws(IOError) {
                switch turn {
                case .noWait: try loop.run(.noWait)
                case .once:
                    // So that it has something to wait for.
                    let pacer = loop.schedule(after: .milliseconds(1)) { _ in }
                    try loop.run(.once)
                    pacer.cancel()
                case .untilStopped, .twice:
                    let time: Duration = turn == .twice ? .zero : .milliseconds(1)
                    let end = loop.schedule(after: time) { [unowned loop] _ in loop.stop() }
                    try loop.run()
                    end.cancel()
                    if turn == .twice { try loop.run(.noWait) }
                }
            } catch {
                overseer.report("run threw \(error)")
            }
        }
    }

    /// In a callback: a few calls, as the sequence says.
    func react() {
        for _ in 0..<tape.next(below: Self.mostReactions + 1) { act() }
    }

    // MARK: The end of a loop

    private func end(_ ending: Ending) {
        guard loop != nil else { return }
        note("the end: \(ending)")
        // Callbacks do nothing more.
        tape.stop()
        if ending == .letGo { return }
        for each in connections { each.reach() }
        for each in listeners { each.reach() }
        for each in timers { each.reach() }
        switch ending {
        case .letGo: break
        case .settle: settle()
        case .reset: for each in connections { each.reset() }
        case .close, .end:
            for each in connections { if ending == .close { each.close() } else { each.end() } }
            for each in connections { each.resume() }
            for _ in 0..<3 { turn(.noWait) }
            for each in peers { each.receiveAll() }
        }
        for each in peers { each.close() }
        for each in listeners { each.close() }
        for each in timers { each.cancel() }
        for each in watchers { each.cancel() }
        for each in holds { each.release() }
        runToTheEnd()
    }

    /// Everybody reads, and all that is owed comes: bytes, ends, `onDrain`, clients that wait.
    private func settle() {
        for each in connections { each.resume() }
        for each in listeners { each.resume() }
        isSettling = true
        defer { isSettling = false }
        var owed: [String] = []
        let deadline = ContinuousClock.now + limit
        repeat {
            // Not `.once`, which a handle that still closes sends back at once.
            turn(.untilStopped)
            for each in peers { each.receiveAll() }
            owed = connections.compactMap(\.owed) + peers.compactMap(\.owed)
        } while !owed.isEmpty && ContinuousClock.now < deadline
        for each in owed { overseer.report("\(each), and nothing comes any more") }
        for each in connections { each.reset() }
    }

    /// Until nothing is left, which then is checked.
    private func runToTheEnd() {
        guard let loop else { return }
        var isLate = false
        // Whom the end of their peers does not end, such as those at which nobody looks, ends this.
        let help = loop.schedule(after: .milliseconds(20)) { [unowned self] _ in
            for each in connections { each.reset() }
            for each in listeners { each.close() }
        }
        help.unref()
        let watchdog = loop.schedule(after: limit) { [unowned loop] _ in
            isLate = true
            loop.stop()
        }
        watchdog.unref()
        overseer.run {
            do throws(IOError) { try loop.run() } catch { overseer.report("run threw \(error)") }
        }
        // Asked before the two are cancelled, which they are a turn later with libuv.
        if loop.isAlive, !isLate { overseer.report("clause 16: run returned, and the loop is alive") }
        help.cancel()
        watchdog.cancel()
        if isLate { return overseer.report("clause 16: the loop did not come to its end within \(limit)") }
        for each in connections { each.checkClosed() }
        for each in listeners { each.checkClosed() }
        errands.checkDone(overseer)
    }

    /// Nothing may be left of what nobody holds any more.
    private func letGoOfAll() {
        let alive = connections.map { ("connection \($0.number)", $0.aliveness) }
        let others = listeners.map { ("listener \($0.number)", $0.aliveness) }
        for each in connections { each.other = .nobody }
        // Each is held by what its own callback captured.
        for each in timers { each.drop() }
        connections = []
        listeners = []
        timers = []
        watchers = []
        for each in peers { each.close() }
        peers = []
        meetingPlace = nil
        for (name, isAlive) in alive + others where isAlive() { overseer.report("clause 16: \(name) is never let go") }
    }
}

/// How a loop is run for a while.
enum Turn: Int {
    case once, untilStopped, twice
    /// Any other number.
    case noWait
}

/// How a loop ends.
enum Ending: CaseIterable {
    case reset, close, end
    /// When nothing is owed any more.
    case settle
    /// With all that lives in it.
    case letGo
}

/// What the loop, its listeners and connections are made with, such that queues fill and time-outs pass.
struct ChosenOptions: CustomStringConvertible {
    var loop = EventLoop.Options()
    var listener = Listener.Options()
    var connection: Connection.Options { listener.connection }

    var description: String {
        let marks = "marks \(connection.lowWaterMark) and \(connection.highWaterMark)"
        let times = connection.timeouts
        let timeouts = [
            ("idle", times.idle), ("read", times.read), ("write", times.write), ("saturated", times.saturated),
            ("close", times.close),
        ]
        .compactMap { name, time in time.map { ", \(name) \($0)" } }.joined()
        return marks + (connection.allowsHalfOpen ? ", half-open" : "")
            + (connection.sendBufferSize.map { ", send buffer \($0)" } ?? "") + timeouts
            + (connection.maxQueuedBytes.map { ", \($0) queued for each" } ?? "")
            + (times.minimumRate.map { ", \($0.bytesPerSecond) bytes a second" } ?? "")
            + (listener.maxConnections.map { ", \(listener.beyondMaxConnections) beyond \($0) connections" } ?? "")
            + ", \(listener.acceptsPerWakeup) accepts" + (loop.collectsMetrics ? ", metrics" : "")
            + (loop.maxQueuedBytes < 1 << 30 ? ", \(loop.maxQueuedBytes) queued" : "")
    }

    init() {}

    init(_ tape: inout Tape) {
        loop.collectsMetrics = tape.chance(1, of: 2)
        loop.maxQueuedBytes = tape.chance(1, of: 4) ? 1 << 20 : 1 << 30
        var options = Connection.Options()
        options.highWaterMark = [1, 1_000, 20_000, 65_536][tape.next(below: 4)]
        options.lowWaterMark = tape.next() * options.highWaterMark / 256
        options.allowsHalfOpen = tape.chance(1, of: 2)
        if tape.chance(1, of: 2) { options.sendBufferSize = [1, 4_096, 16_384][tape.next(below: 3)] }
        if tape.chance(1, of: 2) { options.receiveBufferSize = 4_096 }
        if tape.chance(1, of: 4) { options.timeouts.idle = .milliseconds(1 + tape.next(below: 8)) }
        if tape.chance(1, of: 4) { options.timeouts.read = .milliseconds(1 + tape.next(below: 8)) }
        if tape.chance(1, of: 4) { options.timeouts.write = .milliseconds(1 + tape.next(below: 8)) }
        options.timeouts.close = .milliseconds(1 + tape.next(below: 8))
        // Rarely: who may be ended by them is checked less.
        if tape.chance(1, of: 12) { options.timeouts.saturated = .milliseconds(1 + tape.next(below: 8)) }
        if tape.chance(1, of: 12) {
            options.timeouts.minimumRate = .init(bytesPerSecond: 1 + tape.next(), window: .seconds(1))
        }
        if tape.chance(1, of: 12) { options.maxQueuedBytes = options.highWaterMark + tape.next() * 1_000 }
        listener.connection = options
        listener.acceptsPerWakeup = 1 + tape.next(below: 4)
        if tape.chance(1, of: 4) { listener.maxConnections = 1 + tape.next(below: 3) }
        if tape.chance(1, of: 2) { listener.beyondMaxConnections = .refuse }
    }

    /// What connections may end by, beside what is done to them.
    var hasTimeouts: Bool {
        let times = connection.timeouts
        return times.idle != nil || times.read != nil || times.write != nil || times.saturated != nil
            || times.minimumRate != nil
    }

    /// Whether connections may be reset since too much is queued.
    var mayShed: Bool { loop.maxQueuedBytes < 1 << 30 || connection.maxQueuedBytes != nil }
}
