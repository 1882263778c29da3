internal import CallbackModel
internal import ParityKit

// What is called on a connection, and what must be true at the end.
extension CalledConnection {
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
        // In a callback it waits for the others of the same one, and is looked at when they leave.
        let most = connection.options.maxQueuedBytes ?? .max
        if mayBeTaken, !bytes.isEmpty, !machine.isRunning, connection.bufferedByteCount > most {
            report("clause 14: \(connection.bufferedByteCount) bytes are queued of \(most)")
        }
    }

    private func check(_ status: WriteStatus, _ connection: Connection, _ mayBeTaken: Bool, _ isKnown: Bool) {
        if status == .closed {
            let isExpected = isRefused || !mayBeTaken || mayHaveEnded
            if !isExpected { report("clause 8: a write was refused without a reason") }
            isRefused = true
            return
        }
        if !mayBeTaken, !isPiped { report("clause 8: a write after the end answered \(status)") }
        if status == .saturated { (isDrainOwed, mayDrain) = (true, true) }
        let isFull = connection.bufferedByteCount >= connection.options.highWaterMark
        if status == .flowing, isFull { report("clause 6: a write into a full queue answered flowing") }
        if status == .saturated, !isFull, isKnown { report("clause 6: a write into a short queue answered saturated") }
    }

    /// Whether the connection may have closed or ended itself by now.
    var mayHaveEnded: Bool {
        // A pipe's other end may have gone, and this one with it.
        if !called.isEmpty || isClient || hasEnded || mayBeShed || isPiped { return true }
        return otherMayBeGone || isRefusedSomething
    }

    private func call(_ name: String, _ body: (Connection) -> Void) {
        guard let connection else { return }
        machine.note("\(self.name(name))")
        overseer.call(self.name(name)) { body(connection) }
    }

    /// It is cancelled when the connection has closed, and does not begin on a closed one.
    func beginTask() {
        let wasClosed = reason != nil || isLoopGone
        call("task") { connection in
            connection.task { [self] in
                await Task.yield()
                if Task.isCancelled { return }
                machine.overseer.callback(name("a task")) {
                    if wasClosed || reason != nil { report("clause 17: a task of a closed connection goes on") }
                    machine.react()
                }
            }
        }
    }

    func end() {
        guard connection != nil else { return }
        call("end") { $0.end() }
        called.insert(.end)
        isOutputOver = true
    }

    func finish(within limit: Duration) {
        guard connection != nil else { return }
        call("finish(within: \(limit))") { $0.finish(within: limit) }
        called.insert(.end)
        isOutputOver = true
        isPaused = false
        // What comes from now on is dropped, and a pipe is cut.
        isPiped = true
        framing = nil
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

    func pipe(to target: CalledConnection) {
        guard target !== self, !isLoopGone, !target.isLoopGone, let to = target.connection, connection != nil else {
            return
        }
        isPiped = true
        framing = nil
        target.isPiped = true
        call("pipe(to: \(target.number))") { $0.pipe(to: to) }
    }

    func setOptions(_ options: Connection.Options) {
        called.insert(.timeouts)
        if options.maxQueuedBytes != nil { mayBeShed = true }
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
            if framing != nil, connection.onData != nil { report("clause 19: onData is there beside frames") }
            if !isLoopGone, let loop = machine.loop, connection.loop !== loop { report("it has another loop") }
        }
    }

    // MARK: The end

    /// Whether nothing but `onClose` can come, whatever else has happened.
    var isOver: Bool { called.contains(.close) || called.contains(.reset) || reason != nil || isLoopGone }

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
        guard seesClose, seesEnd, !peer.isBroken, !mayBeShed else { return nil }
        if let framing {
            if let owed = owed(framing, peer.sent[receivedCount...]) { return owed }
        } else if receivedCount < peer.sent.count {
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
