internal import CallbackModel
internal import Glibc
internal import ParityKit

// What the sequence asks of timers, signals and the loop.
extension CallMachine {
    /// The most of each kind in one loop.
    static let mostTimers = 12
    private static let mostErrands = 6

    func actOnTimer() {
        guard !timers.isEmpty, !tape.chance(1, of: 3) else {
            guard let loop, timers.count < Self.mostTimers else { return }
            let milliseconds = tape.next(below: 4)
            timers.append(CalledTimer(loop, milliseconds: milliseconds, isRepeating: tape.chance(1, of: 4), self))
            return
        }
        let timer = timers[tape.next(below: timers.count)]
        switch tape.next(below: 8) {
        case 0, 1: timer.cancel()
        case 2...4: timer.reschedule(milliseconds: tape.next(below: 4))
        case 5: timer.drop()
        default: timer.refer(tape.chance(1, of: 2))
        }
    }

    private func actOnWatcher() {
        guard !watchers.isEmpty else {
            guard let loop else { return }
            do throws(IOError) { watchers.append(try CalledWatcher(loop, self)) } catch { report("onSignal", error) }
            return
        }
        let watcher = watchers[tape.next(below: watchers.count)]
        switch tape.next(below: 4) {
        case 0: watcher.cancel()
        case 1: watcher.refer(tape.chance(1, of: 2))
        default: watcher.raise()
        }
    }

    func actOnLoop() {
        guard let loop else { return }
        switch tape.next(below: 16) {
        case 0: overseer.call("stop") { loop.stop() }
        case 1, 2: execute(loop)
        case 3: offload(loop)
        case 4: resolve(loop)
        case 5...7: actOnWatcher()
        case 8: loop.onSlowCallback(longerThan: .milliseconds(1 + tape.next(below: 4))) { _ in }
        case 9: if tape.chance(1, of: 4) { letGo() }
        case 10: refuseBadOptions(loop)
        case 11, 12: beginTask(loop)
        case 13: holdOrRelease(loop)
        default: _ = (loop.isAlive, loop.now, loop.metrics)
        }
    }

    private func beginTask(_ loop: EventLoop) {
        let number = errands.give("what a task does")
        note("task \(number)")
        overseer.call("task") {
            _ = loop.task { [self, unowned loop] in
                await Task.yield()
                // A loop that is let go cancels its tasks, outside of `run`.
                guard !Task.isCancelled else { return }
                if !loop.isOnLoop { overseer.report("clause 17: a task ran outside of run") }
                finish("what a task does", number, inOrder: false)
            }
        }
    }

    private func holdOrRelease(_ loop: EventLoop) {
        note(holds.isEmpty ? "hold" : "release")
        if let hold = holds.popLast() { return overseer.call("release") { hold.release() } }
        holds.append(loop.hold())
        if !loop.isAlive { overseer.report("clause 16: a loop that is held is not alive") }
    }

    private func refuseBadOptions(_ loop: EventLoop) {
        var bad = Listener.Options()
        bad.connection.highWaterMark = 0
        let address = try? SocketAddress.ipv4("127.0.0.1", port: 0)
        guard let address else { return }
        if (try? loop.listen(on: address, options: bad) { _ in }) != nil { overseer.report("bad options were taken") }
        if (try? loop.connect(host: "", port: 70_000)) != nil { overseer.report("an empty host was taken") }
    }

    private func execute(_ loop: EventLoop) {
        let number = errands.give("what a waker was given")
        note("execute \(number)")
        overseer.call("execute") {
            _ = loop.waker.execute { CallMachine.current?.finish("what a waker was given", number, inOrder: true) }
        }
    }

    private func offload(_ loop: EventLoop) {
        let number = errands.give("what another thread was given")
        guard number <= Self.mostErrands else { return finishUndone("what another thread was given") }
        note("offload \(number)")
        do throws(IOError) {
            let thread = UInt(pthread_self())
            try loop.offload({ UInt(pthread_self()) }) { [self] result in
                if case .success(thread) = result { overseer.report("blocking work ran on the loop's thread") }
                finish("what another thread was given", number, inOrder: false)
            }
        } catch {
            overseer.report("offload threw \(error)")
        }
    }

    private func resolve(_ loop: EventLoop) {
        let number = errands.give("what the resolver was asked")
        guard number <= Self.mostErrands else { return finishUndone("what the resolver was asked") }
        note("resolve \(number)")
        do throws(IOError) {
            try loop.resolve(host: "127.0.0.1", port: 1) { [self] _ in
                finish("what the resolver was asked", number, inOrder: false)
            }
        } catch {
            report("resolve", error)
            finishUndone("what the resolver was asked")
        }
    }

    /// A small engine may do without names and signals, and says so with ENOSYS.
    func report(_ call: String, _ error: IOError) {
        if error.errno != ENOSYS { overseer.report("\(call) threw \(error)") }
    }

    private func finishUndone(_ kind: String) { _ = errands.finish(kind, 0, inOrder: false) }

    private func finish(_ kind: String, _ number: Int, inOrder: Bool) {
        overseer.callback(kind) {
            if let violation = errands.finish(kind, number, inOrder: inOrder) { overseer.report(violation) }
            note("\(kind), \(number):")
            react()
        }
    }
}
