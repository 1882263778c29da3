internal import CallbackModel
internal import Glibc
internal import ParityKit

/// A listener as the contract says it must be, beside the one that is.
final class CalledListener {
    let number: Int
    private unowned let machine: CallMachine
    private var overseer: Overseer { machine.overseer }
    private(set) var listener: Listener?
    private weak var alive: Listener?
    private(set) var port = 0
    private var isPaused = false
    private var isClosing = false
    /// By a drain, which still accepts those who wait.
    private(set) var acceptsLast = false
    private var isClosed = false
    private var isLoopGone = false
    private var seesClose = true
    /// Drains whose report is owed; a new one takes the place of the old.
    private var drains = 0
    private var isDrainOwed = false

    init(_ number: Int, _ machine: CallMachine) {
        self.number = number
        self.machine = machine
    }

    func begin(_ listener: Listener) {
        self.listener = listener
        alive = listener
        port = listener.localAddress.port ?? 0
        setCallbacks(true)
    }

    var isListening: Bool { !isClosing && !isLoopGone }
    /// Whether whoever connects must be accepted.
    var hasRoom: Bool { isListening && !isPaused && listener != nil && machine.options.listener.maxConnections == nil }

    private func report(_ violation: String) { overseer.report("\(violation), listener \(number)") }

    func setCallbacks(_ areSet: Bool) {
        guard let listener else { return }
        listener.onShed = areSet ? { [self] in shed($1) } : nil
        listener.onError = areSet ? { [self] in failed($1) } : nil
        machine.note("callbacks of listener \(number): \(areSet)")
        if !isClosed, !areSet { seesClose = false }
        listener.onClose = areSet ? { [self] _ in closed() } : nil
    }

    private func callback(_ name: String, _ check: () -> Void) {
        overseer.callback("\(name) of listener \(number)") {
            if isClosed, name != "the end of a drain" { report("\(name) came after onClose") }
            if isLoopGone { report("clause 16: \(name) came after the loop was let go") }
            machine.note("\(name) of listener \(number):")
            check()
            machine.react()
        }
    }

    func connected(_ body: () -> Void) {
        callback("onConnection") {
            if isPaused, !acceptsLast { report("clause 12: onConnection came after pause()") }
            if isClosing, !acceptsLast { report("onConnection came after close()") }
            body()
        }
    }

    private func shed(_ shed: Listener.Shed) {
        callback("onShed") {
            if shed.count < 1 || shed.cause != .maxConnections { report("clause 12: \(shed) was told") }
        }
    }

    private func failed(_ error: IOError) { callback("onError") { report("accepting failed: \(error)") } }

    private func closed() {
        callback("onClose") {
            isClosed = true
            acceptsLast = false
            if !isClosing { report("onClose came, and nobody has closed") }
        }
    }

    private func call(_ name: String, _ body: (Listener) -> Void) {
        guard let listener else { return }
        machine.note("\(name) of listener \(number)")
        overseer.call("\(name) of listener \(number)") { body(listener) }
    }

    func pause() {
        call("pause") { $0.pause() }
        if listener != nil { isPaused = true }
    }

    func resume() {
        call("resume") { $0.resume() }
        isPaused = false
    }

    func close() {
        call("close") { $0.close() }
        guard listener != nil else { return }
        isClosing = true
        acceptsLast = false
    }

    func drain(milliseconds: Int) {
        guard listener != nil else { return }
        drains += 1
        isDrainOwed = !isLoopGone
        if !isClosing { acceptsLast = true }
        isClosing = true
        let drain = drains
        call("drain") {
            $0.drain(within: .milliseconds(milliseconds)) { [self] report in
                callback("the end of a drain") {
                    if drain != drains || !isDrainOwed { self.report("the end of a drain came that was replaced") }
                    isDrainOwed = false
                    if listener?.connectionCount ?? 0 > 0 { self.report("a drain ended with open connections") }
                    _ = (report.finished, report.forced)
                }
            }
        }
    }

    func look() {
        guard let listener else { return }
        let most = listener.options.maxConnections ?? .max
        if listener.connectionCount < 0 || listener.connectionCount > most {
            report("clause 12: \(listener.connectionCount) connections of \(most)")
        }
        if !isLoopGone {
            // In its `onClose` a connection is not counted any more, and still listed.
            if Set(listener.connections).count < listener.connectionCount {
                report("\(listener.connections.count) connections are listed of \(listener.connectionCount)")
            }
            if let loop = machine.loop, listener.loop !== loop { report("it has another loop") }
        }
        _ = listener.localAddress
    }

    func broadcast(_ bytes: [UInt8], except: CalledConnection?, _ way: Listener.WhenSaturated) {
        guard let listener else { return }
        let members = machine.connections.filter { $0.listener === self }
        // Who is behind is not known exactly.
        for each in members where way == .reset && each !== except && each.mayDrain { each.called.insert(.broadcast) }
        machine.note("broadcast of listener \(number): \(bytes.count) bytes, \(way)")
        let count = overseer.call("broadcast of listener \(number)") {
            listener.broadcast(bytes, except: except?.alive, whenSaturated: way)
        }
        let answers = members.map { ($0.mayHaveEnded, $0.got(bytes, isFor: $0 !== except, way)) }
        let most = answers.count { $0.1 != false }
        let least = answers.count { !$0.0 && $0.1 == true }
        if count < least || count > most { report("a broadcast says \(count) of \(least) to \(most)") }
    }

    func drop() {
        machine.note("let go of listener \(number)")
        listener = nil
    }

    func reach() {
        if listener == nil { listener = alive }
    }

    func loopIsGone() { isLoopGone = true }

    func checkClosed() {
        if !isClosed, seesClose, !isLoopGone { report("onClose did not come") }
        if isDrainOwed, !isLoopGone { report("the end of a drain did not come") }
    }

    var aliveness: () -> Bool {
        let listener = WeakReference(alive)
        return { listener.object != nil }
    }
}

/// A watched signal.
final class CalledWatcher {
    private unowned let machine: CallMachine
    private var watcher: EventLoop.SignalWatcher?
    private(set) var isWatching = true
    private var isLoopGone = false

    init(_ loop: EventLoop, _ machine: CallMachine) throws(IOError) {
        self.machine = machine
        machine.note("watch a signal")
        watcher = try loop.onSignal(.user2) { [self] _ in received() }
        // It keeps the loop running otherwise, and one that is let go of cannot be cancelled.
        watcher?.unref()
    }

    private func received() {
        machine.overseer.callback("a signal") {
            if !isWatching { machine.overseer.report("a signal came to a watcher that was cancelled") }
            if isLoopGone { machine.overseer.report("clause 16: a signal came after the loop was let go") }
            machine.note("a signal:")
            machine.react()
        }
    }

    /// Raised only while it is watched: it would end the process.
    func raise() {
        guard isWatching, !isLoopGone else { return }
        machine.note("raise the signal")
        Glibc.raise(EventLoop.Signal.user2.rawValue)
    }

    func cancel() {
        guard let watcher else { return }
        machine.overseer.call("cancel of a watcher") { watcher.cancel() }
        isWatching = false
    }

    func refer(_ isReferenced: Bool) {
        if isReferenced { watcher?.ref() } else { watcher?.unref() }
    }

    func loopIsGone() { isLoopGone = true }
}

/// What was given to the loop to be done once.
struct Errands {
    private var given: [String: Int] = [:]
    private var done: [String: Int] = [:]

    /// The number of the errand.
    mutating func give(_ kind: String) -> Int {
        given[kind, default: 0] += 1
        return given[kind, default: 0]
    }

    /// Those of wakers come in their order; whose work is for other threads, in any.
    mutating func finish(_ kind: String, _ number: Int, inOrder: Bool) -> String? {
        done[kind, default: 0] += 1
        if done[kind, default: 0] > given[kind, default: 0] { return "\(kind) came more than once" }
        if inOrder, number != done[kind] { return "\(kind) \(number) came as number \(done[kind, default: 0])" }
        return nil
    }

    func checkDone(_ overseer: Overseer) {
        for (kind, count) in given where done[kind, default: 0] != count {
            overseer.report("clause 16: \(done[kind, default: 0]) of \(count) came: \(kind)")
        }
    }
}
