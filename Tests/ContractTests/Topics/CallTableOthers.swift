import CallbackServer
import Glibc
import TestSupport
import Testing

// The states of a loop's other objects, and all that may be asked of them.

// MARK: Listeners

private func listen(_ cell: Cell, _ options: Listener.Options = .init()) throws -> Listener {
    let listener = try cell.theLoop.listen(options: options) { connection in
        cell.note("onConnection")
        connection.onClose = { _, reason in cell.note("client: \(reason)") }
    }
    listener.onClose = { _ in cell.note("onClose") }
    listener.onShed = { _, shed in cell.note("onShed \(shed.count) \(shed.cause)") }
    return listener
}

private func refusing() -> Listener.Options {
    var options = Listener.Options()
    (options.maxConnections, options.beyondMaxConnections) = (1, .refuse)
    return options
}

func listenerStates() -> [CallState<Listener>] {
    func state(
        _ name: String, _ options: Listener.Options = .init(),
        _ prepare: @escaping (Cell, Listener, @escaping (Listener) -> Void) throws -> Void
    ) -> CallState<Listener> {
        CallState(name) { cell, act in
            let listener = try listen(cell, options)
            try prepare(cell, listener, act)
            act(listener)
        }
    }
    func connect(_ cell: Cell, _ listener: Listener) throws {
        _ = cell.peer(try PlainClient(port: UInt16(listener.localAddress.port ?? 0)))
    }
    return [
        state("listening") { _, _, _ in },
        state("with a client that waits") { cell, listener, _ in try connect(cell, listener) },
        state("with a client") { cell, listener, _ in
            try connect(cell, listener)
            try cell.settle()
        },
        state("paused, with a client that waits") { cell, listener, _ in
            listener.pause()
            try connect(cell, listener)
            try cell.settle()
        },
        state("closing") { _, listener, _ in listener.close() },
        state("closed") { cell, listener, _ in
            listener.close()
            try cell.settle()
        },
        state("draining, with a client") { cell, listener, _ in
            try connect(cell, listener)
            try cell.settle()
            listener.drain(within: .seconds(60)) { cell.note("drained \($0.finished) \($0.forced)") }
        },
        state("after its loop") { cell, _, _ in cell.dropLoop() },
        state("inside onConnection") { cell, listener, act in
            let act = cell.keep({ [unowned listener] in act(listener) })
            let other = try cell.theLoop.listen { _ in act() }
            try connect(cell, other)
            try cell.turn { other.connectionCount > 0 }
        },
        state("inside onClose") { cell, listener, act in
            listener.onClose = act
            listener.close()
            try cell.settle()
        },
        state("inside onShed", refusing()) { cell, listener, act in
            var isShed = false
            listener.onShed = { listener, _ in
                isShed = true
                act(listener)
            }
            try connect(cell, listener)
            try connect(cell, listener)
            try cell.turn { isShed }
        },
    ]
}

var listenerCalls: [PublicCall<Listener>] {
    [
        .value("localAddress") { kind(of: $0.localAddress) }, .value("connectionCount") { $0.connectionCount },
        .value("options") { $0.options.backlog },
        PublicCall("loop") { cell, listener in cell.loop.map { "\(listener.loop === $0)" } ?? "has no other" },
        .value("connections") { $0.connections.count },
        .value("broadcast") { $0.broadcast([1], whenSaturated: .write) },
        .value("onShed, onError, onClose") { "\($0.onShed != nil) \($0.onError != nil) \($0.onClose != nil)" },
        PublicCall("onClose anew") { cell, listener in
            listener.onClose = { _ in cell.note("new onClose") }
            return "returns"
        },
        .void("pause") { $0.pause() }, .void("resume") { $0.resume() }, .void("close") { $0.close() },
        .void("pause, resume") { listener in
            listener.pause()
            listener.resume()
        },
        PublicCall("drain") { cell, listener in
            listener.drain(within: .zero) { cell.note("report \($0.finished) \($0.forced) \($0.broken)") }
            return "returns"
        },
    ]
}

// MARK: Timers

func timerStates() -> [CallState<EventLoop.Timer>] {
    func state(
        _ name: String, after delay: Duration = .seconds(3_600), repeating: Duration? = nil, isInside: Bool = false,
        _ prepare: @escaping (Cell, EventLoop.Timer) throws -> Void = { _, _ in }
    ) -> CallState<EventLoop.Timer> {
        CallState(name) { cell, act in
            let timer = try cell.theLoop.schedule(after: delay, repeating: repeating) { timer in
                if isInside { act(timer) }
                cell.note("fires")
            }
            try prepare(cell, timer)
            if !isInside { act(timer) }
        }
    }
    func settle(_ cell: Cell, _ timer: EventLoop.Timer) throws { try cell.settle() }
    return [
        state("armed"), state("armed, and seen by a turn", settle), state("due in the next turn", after: .zero),
        state("has fired", after: .zero, settle),
        state("repeating", repeating: .seconds(3_600)),
        state("cancelled") { _, timer in timer.cancel() },
        state("cancelled, and seen by a turn") { cell, timer in
            timer.cancel()
            try cell.settle()
        },
        state("cancelled before it was due", after: .zero) { _, timer in timer.cancel() },
        state("without a reference") { _, timer in timer.unref() },
        state("due in the next turn, without a reference", after: .zero) { _, timer in timer.unref() },
        state("after its loop") { cell, _ in cell.dropLoop() },
        state("inside its callback, after no delay", after: .zero, isInside: true, settle),
        state("inside its callback", after: .milliseconds(1), isInside: true) { cell, _ in
            try cell.turn { cell.isMade }
        },
        state("inside its repeated callback", after: .zero, repeating: .seconds(3_600), isInside: true, settle),
    ]
}

var timerCalls: [PublicCall<EventLoop.Timer>] {
    [
        .value("isArmed") { $0.isArmed }, .value("isReferenced") { $0.isReferenced },
        PublicCall("loop") { cell, timer in cell.loop.map { "\(timer.loop === $0)" } ?? "has no other" },
        .void("ref") { $0.ref() }, .void("unref") { $0.unref() }, .void("cancel") { $0.cancel() },
        .void("unref, ref") { timer in
            timer.unref()
            timer.ref()
        },
        .void("reschedule at once") { $0.reschedule(after: .zero) },
        .void("reschedule in an hour") { $0.reschedule(after: .seconds(3_600)) },
        .void("reschedule, cancel") { timer in
            timer.reschedule(after: .seconds(3_600))
            timer.cancel()
        },
    ]
}

// MARK: Signals

/// Ignored by default, so that it may come although nobody watches it any more.
private let harmless = EventLoop.Signal(rawValue: SIGWINCH)

func watcherStates() -> [CallState<EventLoop.SignalWatcher>] {
    func state(
        _ name: String, isInside: Bool = false,
        _ prepare: @escaping (Cell, EventLoop.SignalWatcher) throws -> Void
    ) -> CallState<EventLoop.SignalWatcher> {
        CallState(name) { cell, act in
            var isTold = false
            let watcher = try cell.theLoop.onSignal(harmless) { watcher in
                if isInside { act(watcher) }
                isTold = true
            }
            try prepare(cell, watcher)
            guard isInside else { return act(watcher) }
            kill(getpid(), SIGWINCH)
            try cell.turn { isTold }
        }
    }
    return [
        state("watching") { cell, _ in try cell.settle() },
        state("without a reference") { _, watcher in watcher.unref() },
        state("cancelled") { _, watcher in watcher.cancel() },
        state("cancelled, and seen by a turn") { cell, watcher in
            watcher.cancel()
            try cell.settle()
        },
        state("after its loop") { cell, _ in cell.dropLoop() },
        state("inside its callback", isInside: true) { _, _ in },
    ]
}

var watcherCalls: [PublicCall<EventLoop.SignalWatcher>] {
    [
        .value("signal") { $0.signal.rawValue }, .value("isReferenced") { $0.isReferenced },
        .void("ref") { $0.ref() }, .void("unref") { $0.unref() }, .void("cancel") { $0.cancel() },
    ]
}

// MARK: Loops and wakers

func loopStates() -> [CallState<EventLoop>] {
    [
        CallState("new") { cell, act in act(try cell.theLoop) },
        CallState("after a run") { cell, act in
            try cell.settle()
            act(try cell.theLoop)
        },
        CallState("with a timer") { cell, act in
            try cell.theLoop.schedule(after: .seconds(3_600)) { _ in }
            act(try cell.theLoop)
        },
        CallState("stopped") { cell, act in
            let loop = try cell.theLoop
            loop.schedule(after: .zero) { _ in loop.stop() }
            try loop.run()
            act(loop)
        },
        CallState("inside a timer") { cell, act in
            let loop = try cell.theLoop
            loop.schedule(after: .zero) { _ in act(loop) }
            try cell.settle()
        },
        CallState("inside what a waker was given") { cell, act in
            let loop = try cell.theLoop
            let again = Again(cell) { act(loop) }
            loop.waker.execute { again.body.run() }
            try cell.settle()
        },
    ]
}

var loopCalls: [PublicCall<EventLoop>] {
    [
        .value("isAlive") { $0.isAlive }, .value("now") { $0.now.milliseconds > 0 },
        .value("metrics") { $0.metrics.turns == 0 },
        .void("stop") { $0.stop() },
        PublicCall("stop, then run") { cell, loop in
            loop.stop()
            loop.schedule(after: .zero) { _ in cell.note("fires") }
            return "returns"
        },
        PublicCall("listen") { cell, loop in
            let listener = cell.keep(try loop.listen { _ in })
            return kind(of: listener.localAddress)
        },
        PublicCall("listen at an address that is no host's") { _, loop in
            _ = try loop.listen(on: .ipv4("192.0.2.1", port: 0)) { _ in }
            return "returns"
        },
        PublicCall("listen, adopting no descriptor") { _, loop in
            _ = try loop.listen(adopting: -1) { _ in }
            return "returns"
        },
        PublicCall("adopt no descriptor") { _, loop in
            _ = try loop.adopt(connected: -1)
            return "returns"
        },
        PublicCall("connect to an address") { cell, loop in
            let connection = try loop.connect(to: .unix(abstract: "nobody listens to this name"))
            connection.onClose = { _, reason in cell.note("onClose \(reason)") }
            return "returns"
        },
        PublicCall("connect to a host") { cell, loop in
            cell.awaited = "onOpen"
            let listener = cell.keep(try PlainListener())
            let connection = try loop.connect(host: "127.0.0.1", port: Int(listener.port))
            connection.onOpen = { connection in
                cell.note("onOpen")
                connection.reset()
            }
            connection.onClose = { _, reason in cell.note("onClose \(reason)") }
            return "returns"
        },
        PublicCall("connect to no host") { _, loop in
            _ = try loop.connect(host: "", port: 1)
            return "returns"
        },
        PublicCall("resolve") { cell, loop in
            cell.awaited = "resolved"
            try loop.resolve(host: "127.0.0.1", port: 1) { cell.note("resolved \((try? $0.get()) ?? [])") }
            return "returns"
        },
        PublicCall("offload") { cell, loop in
            cell.awaited = "offloaded"
            try loop.offload({ 7 }) { cell.note("offloaded \((try? $0.get()) ?? 0)") }
            return "returns"
        },
        PublicCall("schedule") { cell, loop in
            cell.awaited = "fires"
            return "\(loop.schedule(after: .milliseconds(1)) { _ in cell.note("fires") }.isArmed)"
        },
        PublicCall("onSignal") { _, loop in
            try loop.onSignal(harmless) { _ in }.cancel()
            return "returns"
        },
        PublicCall("onSignal, of one that cannot be caught") { _, loop in
            try loop.onSignal(.init(rawValue: SIGKILL)) { _ in }
            return "returns"
        },
        PublicCall("onOverload") { cell, loop in
            loop.onOverload = { cell.note("overload \($0)") }
            return "\(loop.onOverload != nil)"
        },
        .void("onSlowCallback") { $0.onSlowCallback(longerThan: .seconds(60)) { _ in } },
        .value("isOnLoop") { $0.isOnLoop }, .value("indexInGroup") { $0.indexInGroup },
        PublicCall("executor, taskExecutor") { cell, loop in
            cell.awaited = "ran"
            let (executor, note) = (loop.executor, Again(cell) { cell.note("ran") })
            Task(executorPreference: loop.taskExecutor) {
                if executor.isIsolatingCurrentContext() == true { note.body.run() }
            }
            return "\(executor.isIsolatingCurrentContext() == true)"
        },
        PublicCall("task") { cell, loop in
            cell.awaited = "ran"
            loop.task { cell.note("ran \(Task.isCancelled)") }
            return "returns"
        },
        PublicCall("hold, isHeld") { cell, loop in "\(cell.keep(loop.hold()).isHeld)" },
        .void("hold, release") { $0.hold().release() },
        PublicCall("LoopBound.execute, run") { cell, loop in
            cell.awaited = "ran"
            let bound = LoopBound(Again(cell) { cell.note("executed") }, on: loop)
            loop.task { cell.note("ran \((try? await bound.run { _ in 1 }) ?? 0)") }
            return "\(bound.execute { $0.body.run() })"
        },
        PublicCall("waker.execute") { cell, loop in
            let note = Again(cell) { cell.note("executed") }
            return "\(loop.waker.execute { note.body.run() })"
        },
        PublicCall("waker.execute, of what asks again") { cell, loop in
            let (waker, note) = (loop.waker, Again(cell) { cell.note("executed") })
            return "\(waker.execute { waker.execute { note.body.run() } })"
        },
    ]
}

/// Takes what is not `Sendable` through a waker, on one thread, while the cell keeps it.
private struct Again: Sendable {
    final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    private let reference: UInt

    init(_ cell: Cell, _ run: @escaping () -> Void) {
        reference = UInt(bitPattern: Unmanaged.passUnretained(cell.keep(Body(run))).toOpaque())
    }

    var body: Body { Unmanaged<Body>.fromOpaque(UnsafeRawPointer(bitPattern: reference)!).takeUnretainedValue() }
}
