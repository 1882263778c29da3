internal import CallbackModel
internal import Glibc
internal import ParityKit

/// A connection as the contract says it must be, beside the one that is.
final class CalledConnection {
    let number: Int
    unowned let machine: CallMachine
    var overseer: Overseer { machine.overseer }
    /// The user's reference, which may be dropped at any time.
    var connection: Connection?
    weak var alive: Connection?
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
        case peer(CalledPeer)
        case connection(CalledConnection)
    }

    /// All that `write` took, in order.
    var written: [UInt8] = []
    /// All that was told, the ends and lengths of frames among it.
    var receivedCount = 0
    /// How what comes is cut; `nil` for `onData`.
    var framing: FrameForm?
    /// All forms that what comes next was to be cut by: one of them may have been refused it.
    var formsHere: [FrameForm] = []
    /// Then bytes may have been read that were never told.
    var hasFramed = false
    private var isOpened: Bool
    /// Whether it has a handshake, and an end of its own in front of FIN. Adopted ones are plain always.
    private let isLayered: Bool
    private(set) var hasEnded = false
    private(set) var reason: CloseReason?
    /// Its `onClose` has returned.
    private var isReleased = false
    var isPaused = false
    /// By `end()`, `close()` or `reset()`: nothing more may be written.
    var isOutputOver = false
    /// A write was refused; each further one must be.
    var isRefused = false
    var isDrainOwed = false
    /// A broadcast may have made the queue long, and does not tell.
    var mayDrain = false
    /// Who has accepted it.
    weak var listener: CalledListener?
    var completions: [Int] = []
    var nextCompletion = 0
    var called: Set<Call> = []
    /// A pipe moves bytes and ends that this does not see.
    var isPiped = false
    /// Not after a callback has once been taken away.
    private(set) var (seesClose, seesEnd, seesDrain) = (true, true, true)
    /// Whether `onUnfinishedFrame` is set.
    private(set) var seesUnfinished = true
    /// Whether it ever was not.
    private(set) var missesUnfinished = false
    /// Whether a limit on queues may end it.
    var mayBeShed: Bool
    var isLoopGone = false

    /// What may end it.
    enum Call {
        case end, close, reset, drain, timeouts
        /// Of the kind that resets who is slow.
        case broadcast
    }

    init(_ number: Int, _ kind: Kind, _ connection: Connection, _ machine: CallMachine) {
        self.number = number
        self.kind = kind
        self.machine = machine
        self.connection = connection
        alive = connection
        isLayered = kind != .adopted && !machine.transport.opensAtOnce
        isOpened = kind == .adopted || kind == .accepted && !isLayered
        mayBeShed = machine.options.mayShed
        if machine.options.hasTimeouts { called.insert(.timeouts) }
        for callback in Callback.allCases { set(callback, isSet: true) }
    }

    /// By which this listener, if it is the other end's, knows it, until it does.
    func name(at listener: CalledListener) -> Int? {
        guard kind == .client, case .nobody = other, !isLoopGone else { return nil }
        guard connection?.remoteAddress.port == listener.port else { return nil }
        return connection?.localAddress?.port
    }

    func name(_ what: String) -> String { "\(what) of connection \(number)" }
    func report(_ violation: String) { overseer.report("\(violation), connection \(number)") }

    // MARK: Callbacks

    enum Callback: CaseIterable {
        case open, data, unfinished, end, drain, timeout, close
    }

    func set(_ callback: Callback, isSet: Bool) {
        guard let connection else { return }
        switch callback {
        case .open:
            connection.onOpen = isSet ? { [self] _ in opened() } : nil
            if !isSet { isOpened = true }
        case .data:
            connection.onData = isSet ? { [self] in received($0, $1) } : nil
            framing = nil
            // Bytes that came in between are not known.
            if !isSet || isPiped { isPiped = true }
        case .unfinished:
            connection.onUnfinishedFrame = isSet ? { [self] in unfinished($1) } : nil
            seesUnfinished = isSet
            if !isSet { missesUnfinished = true }
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

    func callback(_ name: String, _ check: () -> Void) {
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
            if framing != nil { report("clause 19: onData came in the place of frames") }
            checkMayReceive("onData")
            if let sent = sentHere, !isPiped {
                let end = receivedCount + bytes.count
                if end > sent.count {
                    report("clause 5: more came than was sent")
                } else if !isEqual(bytes, sent[receivedCount..<end]) {
                    report("clause 5: other bytes came than were sent")
                }
            }
            receivedCount += bytes.count
            formsHere = []
        }
    }

    /// Whether bytes may be told, however they are cut.
    func checkMayReceive(_ name: String) {
        if hasEnded { report("clause 2: \(name) came after onEnd") }
        if isPaused, !isPiped { report("clause 3: \(name) came after pause()") }
        if called.contains(.close) || called.contains(.reset) { report("clause 3: \(name) came after close()") }
    }

    func isEqual(_ bytes: Span<UInt8>, _ sent: ArraySlice<UInt8>) -> Bool {
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe sent.withUnsafeBytes { sent in
                guard let left = bytes.baseAddress, let right = sent.baseAddress else { return true }
                return unsafe memcmp(left, right, sent.count) == 0
            }
        }
    }

    /// What the other side has sent; `nil` if that is not known.
    var sentHere: [UInt8]? {
        switch other {
        case .nobody: nil
        case .peer(let peer): peer.sent
        case .connection(let other): other.isPiped ? nil : other.written
        }
    }

    /// Whether bytes that are taken for written may never have been.
    var isTailUncertain: Bool {
        if case .connection(let other) = other { return other.isRefused }
        return false
    }

    private func ended() {
        callback("onEnd") {
            if hasEnded { report("clause 4: onEnd came twice") }
            if called.contains(.close) || called.contains(.reset) { report("clause 8: onEnd came after close()") }
            hasEnded = true
            if case .peer(let peer) = other, !peer.hasSentEnd { report("clause 4: onEnd came, and the peer sent none") }
            guard !isPiped, !isTailUncertain, let sent = sentHere else { return }
            if receivedCount != sent.count, !isCutFrame(sent) {
                report("clause 4: onEnd came after \(receivedCount) of \(sent.count) bytes")
            }
        }
    }

    private func drained(_ connection: Connection) {
        callback("onDrain") {
            if !isDrainOwed, !mayDrain, !isPiped { report("clause 6: onDrain came, and no write was saturated") }
            isDrainOwed = false
            mayDrain = false
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
        return [.keep, .close, .keep, .reset][machine.tape.next(below: 4)]
    }

    func completed(_ completion: Int, _ result: WriteResult) {
        callback("a completion") {
            guard completions.first == completion else { return report("clause 5: completions came in another order") }
            completions.removeFirst()
            // One that is closed before it is open sends what was written, and never opens to its user; so does one
            // that its pipe's target closes. No bytes are sent in any case.
            let isSent = result == .sent && alive?.bytesWritten ?? 0 > 0
            let mayBeClosed = called.contains(.close) || isPiped
            if isSent, !isOpened, !mayBeClosed { report("a write was completed before onOpen") }
        }
    }

    private func closed(_ connection: Connection, _ reason: CloseReason) {
        callback("onClose") {
            self.reason = reason
            if connection.descriptor != -1 { report("clause 10: onClose came with an open descriptor") }
            if !completions.isEmpty { report("clause 2: \(completions.count) completions did not come before onClose") }
            if !isPossible(reason) { report("onClose(\(reason)) came, and nobody has done that") }
            if !isPiped, !isReadCount(Int(connection.bytesRead)) {
                report("bytesRead is \(connection.bytesRead), told were \(receivedCount)")
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
        case .localReset: return called.contains(.reset) || called.contains(.broadcast)
        case .peerClosed, .peerReset:
            if case .peer(let peer) = other { return peer.hasFinished }
            return true
        case .truncated: return isLayered && otherMayBeGone
        case .timedOut(.close): return called.contains(.close) || called.contains(.end) || otherMayBeGone
        case .timedOut(.connect): return isClient || isLayered
        case .timedOut: return called.contains(.timeouts)
        case .shed: return mayBeShed
        case .drainDeadline: return called.contains(.drain)
        // Who finishes in the middle of a handshake breaks the layer's protocol.
        case .failed(let error) where isLayered && error.errno == EPROTO && otherMayBeGone: return true
        case .failed(let error): return isClient || mayBeRefused(error.errno)
        }
    }

    var isClient: Bool { kind == .client || kind == .hopeless }

    var otherMayBeGone: Bool {
        switch other {
        case .peer(let peer): peer.hasFinished
        case .nobody, .connection: true
        }
    }
}
