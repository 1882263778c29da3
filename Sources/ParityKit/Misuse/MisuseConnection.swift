internal import CallbackModel
internal import Glibc

/// A connection as the contract says it must be, beside the one that is.
final class MisuseConnection {
    let number: Int
    private unowned let machine: MisuseMachine
    private var overseer: Overseer { machine.overseer }
    /// The user's reference, which may be dropped at any time.
    private(set) var connection: Connection?
    private weak var alive: Connection?
    let kind: Kind
    /// Whose bytes come here, as far as that is known.
    var other = Other.nobody

    enum Kind {
        case accepted, adopted, client
        /// Begun to where nobody listens.
        case hopeless
    }

    enum Other {
        case nobody
        case peer(MisusePeer)
        case connection(MisuseConnection)
    }

    /// All that `write` took, in order.
    private(set) var written: [UInt8] = []
    private(set) var receivedCount = 0
    private var isOpened: Bool
    private var hasEnded = false
    private var reason: CloseReason?
    /// Its `onClose` has returned.
    private var isReleased = false
    private var isPaused = false
    /// By `end()`, `close()` or `reset()`: nothing more may be written.
    private(set) var isOutputOver = false
    /// A write was refused; each further one must be.
    private var isRefused = false
    private var isDrainOwed = false
    private var completions: [Int] = []
    private var nextCompletion = 0
    private(set) var called: Set<Call> = []
    /// A pipe moves bytes and ends that this does not see.
    private(set) var isPiped = false
    /// Not after a callback has once been taken away.
    private var (seesClose, seesEnd, seesDrain) = (true, true, true)
    private var isLoopGone = false

    /// What may end it.
    enum Call {
        case end, close, reset, drain, timeouts
    }

    init(_ number: Int, _ kind: Kind, _ connection: Connection, _ machine: MisuseMachine) {
        self.number = number
        self.kind = kind
        self.machine = machine
        self.connection = connection
        alive = connection
        isOpened = kind == .accepted || kind == .adopted
        if machine.options.hasTimeouts { called.insert(.timeouts) }
        for callback in Callback.allCases { set(callback, isSet: true) }
    }

    /// By which the other end's listener knows it, until it does.
    var name: Int? {
        guard kind == .client, case .nobody = other, !isLoopGone else { return nil }
        return connection?.localAddress?.port
    }

    private func name(_ what: String) -> String { "\(what) of connection \(number)" }
    private func report(_ violation: String) { overseer.report("\(violation), connection \(number)") }

    // MARK: Callbacks

    enum Callback: CaseIterable {
        case open, data, end, drain, timeout, close
    }

    func set(_ callback: Callback, isSet: Bool) {
        guard let connection else { return }
        switch callback {
        case .open:
            connection.onOpen = isSet ? { [self] _ in opened() } : nil
            if !isSet { isOpened = true }
        case .data:
            connection.onData = isSet ? { [self] in received($0, $1) } : nil
            // Bytes that came in between are not known.
            if !isSet || isPiped { isPiped = true }
        case .end:
            connection.onEnd = isSet ? { [self] _ in ended() } : nil
            if !isSet { seesEnd = false }
        case .drain:
            connection.onDrain = isSet ? { [self] in drained($0) } : nil
            if !isSet { seesDrain = false }
        case .timeout: connection.onTimeout = isSet ? { [self] in timedOut($1) } : nil
        case .close:
            if reason == nil, !isSet { seesClose = false }
            connection.onClose = isSet ? { [self] in closed($0, $1) } : nil
        }
        if isReleased, connection.onData != nil || connection.onClose != nil || connection.onEnd != nil {
            report("clause 8: a closed connection keeps a callback")
        }
    }

    private func callback(_ name: String, _ check: () -> Void) {
        overseer.callback(self.name(name)) {
            if reason != nil { report("clause 2: \(name) came after onClose") }
            if isLoopGone { report("clause 16: \(name) came after the loop was let go") }
            if !isOpened, name != "onOpen", name != "onClose", name != "a completion", name != "onTimeout" {
                report("clause 2: \(name) came before onOpen")
            }
            machine.note("\(self.name(name)):")
            check()
            machine.react()
        }
    }

    private func opened() {
        callback("onOpen") {
            if isOpened { report("clause 2: onOpen came twice or to one that this side has not begun") }
            if kind == .hopeless { report("onOpen came, and nobody listens there") }
            isOpened = true
        }
    }

    private func received(_ connection: Connection, _ bytes: Span<UInt8>) {
        callback("onData") {
            if bytes.isEmpty { report("clause 3: onData got no bytes") }
            if hasEnded { report("clause 2: onData came after onEnd") }
            if isPaused, !isPiped { report("clause 3: onData came after pause()") }
            if called.contains(.close) || called.contains(.reset) { report("clause 3: onData came after close()") }
            if let sent = sentHere, !isPiped {
                let end = receivedCount + bytes.count
                if end > sent.count {
                    report("clause 5: more came than was sent")
                } else if !isEqual(bytes, sent[receivedCount..<end]) {
                    report("clause 5: other bytes came than were sent")
                }
            }
            receivedCount += bytes.count
        }
    }

    private func isEqual(_ bytes: Span<UInt8>, _ sent: ArraySlice<UInt8>) -> Bool {
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe sent.withUnsafeBytes { sent in
                guard let left = bytes.baseAddress, let right = sent.baseAddress else { return true }
                return unsafe memcmp(left, right, sent.count) == 0
            }
        }
    }

    /// What the other side has sent; nothing if that is not known.
    private var sentHere: [UInt8]? {
        switch other {
        case .nobody: nil
        case .peer(let peer): peer.sent
        case .connection(let other): other.isPiped ? nil : other.written
        }
    }

    /// Whether bytes that are taken for written may never have been.
    private var isTailUncertain: Bool {
        if case .connection(let other) = other { return other.isRefused }
        return false
    }

    private func ended() {
        callback("onEnd") {
            if hasEnded { report("clause 4: onEnd came twice") }
            hasEnded = true
            if case .peer(let peer) = other, !peer.hasSentEnd { report("clause 4: onEnd came, and the peer sent none") }
            if !isPiped, !isTailUncertain, let sent = sentHere, receivedCount != sent.count {
                report("clause 4: onEnd came after \(receivedCount) of \(sent.count) bytes")
            }
        }
    }

    private func drained(_ connection: Connection) {
        callback("onDrain") {
            if !isDrainOwed, !isPiped { report("clause 6: onDrain came, and no write had answered saturated") }
            isDrainOwed = false
            if connection.bufferedByteCount > connection.options.lowWaterMark {
                report("clause 6: onDrain came with more than the low water mark queued")
            }
        }
    }

    private func timedOut(_ kind: TimeoutKind) -> TimeoutAction {
        callback("onTimeout") {
            if !called.contains(.timeouts), kind != .close, kind != .connect {
                report("onTimeout(\(kind)) came, and none was set")
            }
        }
        return machine.tape.chance(1, of: 2) ? .keep : .close
    }

    private func completed(_ completion: Int, _ result: WriteResult) {
        callback("a completion") {
            guard completions.first == completion else { return report("clause 5: completions came in another order") }
            completions.removeFirst()
            // One that is closed before it is open sends what was written, and never opens to its user. No bytes are
            // sent in any case.
            let isSent = result == .sent && alive?.bytesWritten ?? 0 > 0
            if isSent, !isOpened, !called.contains(.close) { report("a write was completed before onOpen") }
        }
    }

    private func closed(_ connection: Connection, _ reason: CloseReason) {
        callback("onClose") {
            self.reason = reason
            if connection.descriptor != -1 { report("clause 10: onClose came with an open descriptor") }
            if !completions.isEmpty { report("clause 2: \(completions.count) completions did not come before onClose") }
            if !isPossible(reason) { report("onClose(\(reason)) came, and nobody has done that") }
            if !isPiped, connection.bytesRead != UInt64(receivedCount) {
                report("bytesRead is \(connection.bytesRead), onData got \(receivedCount)")
            }
            if !isPiped, !isRefused, connection.bytesWritten + connection.bytesUnsent != UInt64(written.count) {
                report("\(connection.bytesWritten) sent and \(connection.bytesUnsent) unsent are not \(written.count)")
            }
        }
        isReleased = true
    }

    /// Whether somebody has given this cause.
    private func isPossible(_ reason: CloseReason) -> Bool {
        if isPiped { return true }
        switch reason {
        case .localClose: return called.contains(.end) || called.contains(.close)
        case .localReset: return called.contains(.reset)
        case .peerClosed, .peerReset:
            if case .peer(let peer) = other { return peer.hasFinished }
            return true
        case .timedOut(.close): return called.contains(.close) || called.contains(.end) || otherMayBeGone
        case .timedOut(.connect): return isClient
        case .timedOut: return called.contains(.timeouts)
        case .shed: return machine.options.loop.maxQueuedBytes < 1 << 30
        case .drainDeadline: return called.contains(.drain)
        case .failed: return isClient
        }
    }

    private var isClient: Bool { kind == .client || kind == .hopeless }

    private var otherMayBeGone: Bool {
        switch other {
        case .peer(let peer): peer.hasFinished
        case .nobody, .connection: true
        }
    }
}

// MARK: - Calls

extension MisuseConnection {
    func write(_ bytes: [UInt8], _ way: Int) {
        guard let connection else { return }
        machine.note("write \(bytes.count) bytes to connection \(number), way \(way)")
        // Taken down before: a peer may have the bytes before the call returns.
        let mayBeTaken = !isOutputOver && !isRefused && reason == nil && !isLoopGone
        if mayBeTaken { written += bytes }
        let completion = nextCompletion
        if way >= 4 {
            nextCompletion += 1
            completions.append(completion)
        }
        // An engine may have got further than it has told, which shows when it is asked. Half of the writes are not
        // preceded by that.
        let isKnown = way.isMultiple(of: 2)
        if isKnown { _ = connection.bufferedByteCount }
        let middle = bytes.count / 3
        let pieces = [Array(bytes[..<middle]), [], Array(bytes[middle...])]
        let status = overseer.call(name("write")) {
            switch way {
            case 0: connection.write(bytes)
            case 1: connection.write(bytes.span)
            case 2: connection.write(String(decoding: bytes, as: UTF8.self))
            case 3: connection.write(pieces)
            case 4: connection.write(bytes) { [self] in completed(completion, $0) }
            case 5: connection.write(bytes.span) { [self] in completed(completion, $0) }
            case 6: connection.write(String(decoding: bytes, as: UTF8.self)) { [self] in completed(completion, $0) }
            default: connection.write(pieces) { [self] in completed(completion, $0) }
            }
        }
        if status == .closed, way >= 4 { completions.removeAll { $0 == completion } }
        check(status, connection, mayBeTaken, isKnown)
    }

    private func check(_ status: WriteStatus, _ connection: Connection, _ mayBeTaken: Bool, _ isKnown: Bool) {
        if status == .closed {
            let isExpected = isRefused || !mayBeTaken || isPiped || mayHaveEnded
            if !isExpected { report("clause 8: a write was refused without a reason") }
            isRefused = true
            return
        }
        if !mayBeTaken, !isPiped { report("clause 8: a write after the end answered \(status)") }
        if status == .saturated { isDrainOwed = true }
        let isFull = connection.bufferedByteCount >= connection.options.highWaterMark
        if status == .flowing, isFull { report("clause 6: a write into a full queue answered flowing") }
        if status == .saturated, !isFull, isKnown { report("clause 6: a write into a short queue answered saturated") }
    }

    /// Whether the connection may have closed or ended itself by now.
    private var mayHaveEnded: Bool {
        if !called.isEmpty || isClient || hasEnded { return true }
        if machine.options.loop.maxQueuedBytes < 1 << 30 { return true }
        return otherMayBeGone
    }

    private func call(_ name: String, _ body: (Connection) -> Void) {
        guard let connection else { return }
        machine.note("\(self.name(name))")
        overseer.call(self.name(name)) { body(connection) }
    }

    func end() {
        guard connection != nil else { return }
        call("end") { $0.end() }
        called.insert(.end)
        isOutputOver = true
    }

    func close() {
        guard connection != nil else { return }
        call("close") { $0.close() }
        called.insert(.close)
        isOutputOver = true
    }

    func reset() {
        guard connection != nil else { return }
        call("reset") { $0.reset() }
        called.insert(.reset)
        isOutputOver = true
    }

    func pause() {
        guard connection != nil else { return }
        call("pause") { $0.pause() }
        isPaused = true
    }

    func resume() {
        guard connection != nil else { return }
        call("resume") { $0.resume() }
        isPaused = false
    }

    func pipe(to target: MisuseConnection) {
        guard target !== self, !isLoopGone, !target.isLoopGone, let to = target.connection, connection != nil else {
            return
        }
        isPiped = true
        target.isPiped = true
        call("pipe(to: \(target.number))") { $0.pipe(to: to) }
    }

    func setOptions(_ options: Connection.Options) {
        called.insert(.timeouts)
        call("options") { $0.options = options }
    }

    func drains() { called.insert(.drain) }

    func drop() {
        machine.note("let go of connection \(number)")
        connection = nil
    }

    /// Reads all that can be read.
    func look() {
        guard let connection else { return }
        overseer.call(name("a property")) {
            if connection.bufferedByteCount < 0 || connection.age < .zero { report("a figure is negative") }
            let isGone = reason != nil || isLoopGone
            if isGone, connection.descriptor != -1 { report("clause 10: a closed connection has a descriptor") }
            if isGone, connection.localAddress != nil { report("a closed connection has a local address") }
            if isGone, connection.bufferedByteCount != 0 { report("a closed connection has a queue") }
            _ = (connection.remoteAddress, connection.options.highWaterMark, connection.bytesWritten)
            _ = (connection.onOpen == nil, connection.onDrain == nil, connection.onTimeout == nil)
        }
    }

    // MARK: The end

    /// At the end of a loop also those are reached that the user has let go of.
    func reach() {
        if connection == nil { connection = alive }
    }

    func loopIsGone() { isLoopGone = true }

    func checkClosed() {
        if reason == nil, seesClose, !isLoopGone { report("clause 2: onClose did not come") }
    }

    /// What has to come, if everybody reads; nothing where that is not known, since a pipe or a time-out may decide.
    var owed: String? {
        guard case .peer(let peer) = other, reason == nil, !isPiped, !isLoopGone, called.isSubset(of: [.end]) else {
            return nil
        }
        // After its end nothing is read from the peer, and a reset is noticed within 2 seconds: too long here.
        if peer.hasReset, seesClose, seesEnd, !hasEnded { return "connection \(number) is open after a reset" }
        guard seesClose, seesEnd, !peer.isBroken, machine.options.loop.maxQueuedBytes == 1 << 30 else { return nil }
        if receivedCount < peer.sent.count {
            return "connection \(number) has got \(receivedCount) of \(peer.sent.count) bytes"
        }
        if !isRefused, peer.receivedCount < written.count {
            return "peer \(peer.number) has got \(peer.receivedCount) of \(written.count) bytes"
        }
        if peer.hasFinished, !hasEnded { return "connection \(number) has not got the end" }
        if called.contains(.end), !peer.isOver { return "peer \(peer.number) has not got the end" }
        if isDrainOwed, seesDrain, !called.contains(.end), !hasEnded { return "connection \(number) has not drained" }
        return nil
    }

    /// Whether the library still has it.
    var aliveness: () -> Bool {
        let connection = WeakReference(alive)
        return { connection.object != nil }
    }
}

/// A reference that keeps nothing.
struct WeakReference<Object: AnyObject> {
    weak var object: Object?

    init(_ object: Object?) { self.object = object }
}
