internal import CallbackModel
internal import Glibc

/// Plays a script on one connection.
final class ScriptPlayer {
    private let script: Script
    private let observer: ConnectionObserver
    private unowned let stage: Stage
    private(set) var connection: Connection?
    private var received = 0
    private var completed = 0
    private var completing = 0
    private var hasDrained = false
    /// Whether this side has said that it writes nothing more.
    private var isOutputOver = false
    private var pause = Pause.none

    private enum Pause {
        case none
        case byEcho
        case byScript
    }

    init(_ script: Script, _ observer: ConnectionObserver, _ stage: Stage) {
        self.script = script
        self.observer = observer
        self.stage = stage
    }

    /// Sets the callbacks and does what the script begins with.
    func begin(_ connection: Connection) {
        self.connection = connection
        connection.onOpen = { self.react(.open, $0) }
        connection.onData = { self.receive($0, $1) }
        connection.onEnd = { self.react(.end, $0) }
        connection.onDrain = { self.drain($0) }
        connection.onTimeout = { connection, _ in
            self.react(.timeout, connection)
            let keeps = self.script.reactions.contains { $0.trigger == .timeout && $0.actions.contains(.keep) }
            return keeps ? .keep : .close
        }
        connection.onClose = { connection, _ in
            self.isOutputOver = true
            self.react(.close, connection)
            self.connection = nil
        }
        observer.framing = script.framing
        react(.start, connection)
    }

    private func react(_ trigger: Script.Trigger, _ connection: Connection) {
        for reaction in script.reactions where reaction.trigger == trigger { act(reaction.actions, connection) }
    }

    private func receive(_ connection: Connection, _ bytes: Span<UInt8>) {
        let start = received
        received += bytes.count
        switch script.response {
        case .nothing: break
        case .echo:
            if isOutputOver { break }
            if connection.write(bytes) == .saturated, pause == .none {
                pause = .byEcho
                setPaused(true, connection)
            }
        case .echoWithoutPausing: if !isOutputOver { connection.write(bytes) }
        case .part(let period):
            var part: [UInt8] = []
            for index in bytes.indices where (start + index).isMultiple(of: period) { part.append(bytes[index]) }
            if !part.isEmpty, !isOutputOver { connection.write(part) }
        }
        for reaction in script.reactions {
            guard case .received(let count) = reaction.trigger, start < count, count <= received else { continue }
            act(reaction.actions, connection)
        }
    }

    private func setPaused(_ isPaused: Bool, _ connection: Connection) {
        observer.isPaused = isPaused
        if isPaused { connection.pause() } else { connection.resume() }
    }

    private func drain(_ connection: Connection) {
        if pause == .byEcho {
            pause = .none
            setPaused(false, connection)
        }
        guard !hasDrained else { return }
        hasDrained = true
        react(.drain, connection)
    }

    func act(_ actions: [Script.Action], _ connection: Connection) {
        for action in actions { act(action, connection) }
    }

    private func act(_ action: Script.Action, _ connection: Connection) {
        switch action {
        case .write(let payload): check(connection.write(payload.bytes), connection)
        case .writeEach(let payload, let times):
            let bytes = payload.bytes
            for _ in 0..<times { check(connection.write(bytes), connection) }
        case .writeCompleting(let payload): writeCompleting(payload, connection)
        case .writePieces(let pieces): check(connection.write(pieces.map(\.bytes)), connection)
        case .pipe(let number):
            observer.isPiped = true
            if let target = stage.players[number]?.connection { connection.pipe(to: target) }
        case .pause:
            pause = .byScript
            setPaused(true, connection)
        case .resume:
            pause = .none
            setPaused(false, connection)
        case .end:
            isOutputOver = true
            connection.end()
            // Nothing drains any more, and who does not read does not see the peer's end.
            if pause == .byEcho {
                pause = .none
                setPaused(false, connection)
            }
        case .finish(let milliseconds):
            isOutputOver = true
            pause = .none
            observer.isFinished = true
            connection.finish(within: .milliseconds(milliseconds))
        case .close:
            isOutputOver = true
            connection.close()
            observer.isPaused = true
        case .reset:
            isOutputOver = true
            connection.reset()
            observer.isPaused = true
        case .other(let number, let actions):
            // One that has gone is acted upon all the same: every call on it does nothing.
            guard let other = stage.players[number], let target = other.connection else { return }
            other.act(actions, target)
        case .letGo: self.connection = nil
        case .note(let text): stage.note(text)
        case .setTimeout(let kind, let milliseconds):
            set(kind, milliseconds.map { .milliseconds($0) }, connection)
        case .keep: break
        case .stall(let milliseconds):
            observer.tell()
            stall(for: .milliseconds(milliseconds))
        case .awaitInput(let number): awaitReadiness(of: number, POLLIN)
        case .awaitRoom(let number): awaitReadiness(of: number, POLLOUT)
        case .startTimer, .cancelTimer, .rearmTimer: actOnTimer(action, connection)
        case .closeListener, .pauseListener, .resumeListener, .drainListener: actOnListener(action)
        }
    }

    private func stall(for time: Duration) {
        let end = ContinuousClock.now + time
        // It keeps no processor from the peers; a signal may cut the wait short.
        while case let left = ContinuousClock.now.duration(to: end), left > .zero {
            _ = poll(nil, 0, Int32(clamping: left.wholeMilliseconds))
        }
    }

    private func awaitReadiness(of number: Int, _ events: Int32) {
        observer.tell()
        guard let target = stage.players[number]?.connection else { return }
        let deadline = ContinuousClock.now + stage.scenario.timeLimit
        if !ParityKit.awaitReadiness(of: target.descriptor, events, until: deadline) {
            observer.report("connection \(number) did not become ready")
        }
    }

    private func writeCompleting(_ payload: Payload, _ connection: Connection) {
        let number = completing
        let status = connection.write(payload.bytes) { [observer] result in
            observer.completed(result)
            if self.completed != number { observer.report("clause 5: completions came out of order or twice") }
            self.completed += 1
            observer.callback("a completion") { self.react(.completion(number), connection) }
        }
        check(status, connection)
        if status != .closed { completing += 1 }
    }

    /// Clauses 6 and 8: what a write has to answer.
    private func check(_ status: WriteStatus, _ connection: Connection) {
        if isOutputOver, status != .closed { observer.report("clause 8: a write after the end answered \(status)") }
        let isFull = connection.bufferedByteCount >= connection.options.highWaterMark
        if status == .flowing, isFull { observer.report("clause 6: a write into a full queue answered flowing") }
        if status == .saturated, !isFull { observer.report("clause 6: a write into a short queue answered saturated") }
    }

    private func set(_ kind: TimeoutKind, _ time: Duration?, _ connection: Connection) {
        var options = connection.options
        switch kind {
        case .idle: options.timeouts.idle = time
        case .read: options.timeouts.read = time
        case .write: options.timeouts.write = time
        case .saturated: options.timeouts.saturated = time
        case .minimumRate:
            options.timeouts.minimumRate = time.map { Connection.MinimumRate(bytesPerSecond: 100, window: $0) }
        case .connect: options.timeouts.connect = time
        case .close: options.timeouts.close = time ?? options.timeouts.close
        }
        connection.options = options
    }

    private func actOnTimer(_ action: Script.Action, _ connection: Connection) {
        switch action {
        case .startTimer(let number, let milliseconds, let actions):
            stage.timers[number]?.cancel()
            stage.timers[number] = stage.loop.schedule(after: .milliseconds(milliseconds)) { [weak self] _ in
                guard let self else { return }
                observer.callback("a timer") { self.act(actions, connection) }
            }
        case .cancelTimer(let number): stage.timers[number]?.cancel()
        case .rearmTimer(let number, let milliseconds):
            stage.timers[number]?.reschedule(after: .milliseconds(milliseconds))
        default: break
        }
    }

    private func actOnListener(_ action: Script.Action) {
        switch action {
        case .closeListener: stage.listener?.close()
        case .pauseListener: stage.listener?.pause()
        case .resumeListener: stage.listener?.resume()
        case .drainListener(let milliseconds):
            stage.listener?.drain(within: .milliseconds(milliseconds)) { [unowned stage] report in
                stage.callback("the end of a drain") {
                    stage.note("drained: \(report.finished) finished, \(report.forced) forced")
                }
            }
        default: break
        }
    }
}
