// What is different for a connection with a layer, such as TLS. No other connection comes here.

extension Connection {
    /// Puts `layer` between the connection and its driver. What was written before is sent as it was.
    ///
    /// The connection opens, or opens again, when the layer's handshake is done; until then the connect time-out
    /// counts. `onSecured` is called in the place of `onOpen` then.
    ///
    /// - Precondition: the connection has no layer.
    package func insert(_ layer: ConnectionLayer, onSecured: ((Connection) -> Void)? = nil) {
        guard isUsable, output.isOpen, input != .ended else { return }
        require(!watch.contains(.layered), "the connection has a layer already")
        core.flushBatch(of: self)
        guard output == .open, lifecycle == .connecting || lifecycle == .starting || lifecycle == .open else { return }
        layer.connection = self
        layer.onSecured = onSecured
        layer.driverQueue = queuedByteCount
        layer.handedOverCount = acceptedByteCount
        needRare().layer = layer
        watch.insert(.layered)
        // A client that was adopted opens in the next turn.
        let isDriverOpen = lifecycle == .open || lifecycle == .starting && !watch.contains(.opened)
        // What a framing keeps came in clear, and is looked for in the next turn.
        rare?.framing?.stop()
        if lifecycle == .open { putOffDelivery() }
        move(output: .layered, input: input == .flowing ? .layered : nil)
        if isDriverOpen { _ = layer.driverOpened() }
    }

    /// `nil` for a connection without TLS.
    package var layer: ConnectionLayer? { watch.contains(.layered) ? rare?.layer : nil }

    var flowingInput: Input { watch.contains(.layered) ? .layered : .flowing }

    var isInHandshake: Bool { layer?.phase == .handshaking }

    /// Traps in debug builds on another thread than the loop's.
    package func assertThread(_ call: StaticString) { core.assertThread(call) }

    /// Measures `body`, which calls no user code, as a callback is.
    package func measure(_ kind: EventLoop.CallbackKind, _ body: () -> Void) {
        core.noteEvent()
        let start = core.isTimed ? core.driver.nanoseconds : 0
        body()
        if start != 0 { core.noteCallback(kind, since: start) }
    }

    /// Runs `body` as one of the callbacks that are measured.
    package func perform(_ kind: EventLoop.CallbackKind, _ body: () -> Void) { core.performOnce(kind, body) }

    /// What belongs to a module above the model, for all connections of the loop.
    package var loopAttachment: AnyObject? {
        get { core.layerAttachment }
        set { core.layerAttachment = newValue }
    }

    /// The loop's clock as the turn has read it.
    package var turnMilliseconds: UInt64 { core.driver.cachedMilliseconds }

    /// Changes when a turn begins for which something was put off.
    package var turnNumber: UInt64 { core.requestedTurnCount }

    // MARK: The handshake

    /// What `ConnectionLayer.opened` does.
    func layerOpened() {
        guard let layer, layer.phase == .handshaking else { return }
        if refusesClearBytes(layer) { return }
        layer.phase = .opening
        switch lifecycle {
        case .connecting: opened()
        // Its last message has met the peer's reset: what came before that is still read.
        case .readingOut: if let onOpen = layer.onSecured ?? rare?.onOpen { core.perform(.open) { onOpen(self) } }
        case .starting, .open, .flushing, .closing, .closed: break
        }
        layer.onSecured = nil
        guard layer.phase == .opening, !isOver else { return }
        layer.phase = lifecycle == .readingOut ? .muted : .open
        if !layer.held.isEmpty {
            let held = layer.held
            layer.held = []
            layer.seal(held.span, self)
        }
        guard !isOver else { return }
        if layer.isFinishWanted {
            _ = layer.finish()
            if output == .ending { driver.finish() }
        }
        if !input.flows { stopReading() }
        closeIfFlushed()
    }

    /// What `ConnectionLayer.failed` and `truncated` do.
    func layerFailed(_ reason: CloseReason) {
        guard !isOver else { return }
        var reason = reason
        if case .failed(let error) = reason { reason = .failed(error.about(remoteAddress)) }
        // The peer's alert tells more than the reset behind it.
        if lifecycle == .readingOut, cause == .peerReset { cause = reason } else { noteCause(reason) }
        layer?.phase = .muted
        closeDriver()
    }

    // MARK: Reading

    func layerReceived(_ bytes: Span<UInt8>) {
        if watch.contains(.timeouts), !isOver { lastReadAt = core.milliseconds }
        guard !isOver, let layer else { return }
        layer.received(bytes, self)
        if lifecycle == .flushing { closeIfFlushed() }
    }

    /// What `ConnectionLayer.keep` does.
    func keepForLayer(_ bytes: Span<UInt8>, _ layer: ConnectionLayer) {
        guard !isOver, !bytes.isEmpty || layer.hasUnread else { return }
        layer.kept.append(copying: bytes)
        driver.stopReading()
        if mustRead { putOffDelivery() }
    }

    /// Hands the layer what it has kept, unless the connection is still paused.
    func layerResumed() {
        guard let layer, !isOver else { return }
        if layer.phase == .handshaking, refusesClearBytes(layer) { return }
        guard mustRead, isReadable || lifecycle == .flushing || lifecycle == .connecting else { return }
        if !layer.kept.isEmpty || layer.hasUnread {
            let kept = layer.kept
            layer.kept = []
            layer.received(kept.span, self)
            if lifecycle == .flushing { closeIfFlushed() }
            guard !isOver, layer.kept.isEmpty else { return }
            if mustRead, !watch.contains(.framesHeld) { driver.startReading() }
        }
        // Behind the frames that are held.
        if layer.hasPendingEnd, input == .layered, !watch.contains(.framesHeld) { layerFoundEnd() }
    }

    /// Refuses bytes that a framing has got behind a request for TLS: they came in clear.
    private func refusesClearBytes(_ layer: ConnectionLayer) -> Bool {
        guard let pending = rare?.framing?.pendingCount, pending > 0 else { return false }
        layer.failed(
            IOError(
                call: "startTLS", errno: IOError.protocolError,
                detail: "the peer sent \(pending) bytes in clear behind its request for TLS"))
        return true
    }

    /// What `ConnectionLayer.ended` does.
    func layerFoundEnd() {
        guard !isOver, input != .ended else { return }
        if watch.contains(.framesHeld) {
            layer?.hasPendingEnd = true
            return
        }
        // As behind the driver's own end.
        if lifecycle == .readingOut { return closeDriver() }
        layer?.hasPendingEnd = input != .layered
        if input == .layered { inputEnded() }
    }

    /// The driver has reached the end.
    func layerReachedEnd() {
        guard let layer else { return }
        if lifecycle == .flushing, layer.phase != .handshaking {
            layer.hasPendingEnd = true
            driver.stopReading()
            return closeIfFlushed()
        }
        if layer.phase == .handshaking || input == .layered { layer.reachedEnd() }
    }

    /// Whether a close waits for what the peer is about to send.
    var isAwaitingInput: Bool {
        guard let layer, !layer.hasPendingEnd else { return false }
        return layer.awaitsInput
    }

    func beginReadingLayered() {
        guard let layer else { return }
        let mustTell = !layer.kept.isEmpty || layer.hasPendingEnd || layer.hasUnread
        if mustTell { putOffDelivery() } else { driver.startReading() }
    }

    /// What `close()` does about reading: nothing more is delivered, and what the layer waits for is still read.
    func closeInput() {
        if isAwaitingInput { beginReadingLayered() } else { stopReading() }
    }

    /// Reads no more, unless the layer needs it: a handshake goes on while the user has paused.
    func stopReading() {
        if !mustRead { driver.stopReading() }
    }

    /// Whether it reads, for the user or for the layer itself.
    private var mustRead: Bool {
        input.flows || watch.contains(.layered) && (isInHandshake || lifecycle == .flushing && isAwaitingInput)
    }

    // MARK: Writing

    /// What a write does. Small pieces of a callback become one record, also behind a queue.
    func writeLayered(_ bytes: Span<UInt8>) -> WriteStatus {
        guard output == .layered else { return .closed }
        if core.isInCallback, WriteBatch.fits(bytes.count) {
            if !addToBatch(bytes) {
                // The batch is full.
                core.flushAll()
                guard output == .layered else { return .closed }
                require(addToBatch(bytes), "an empty batch has no room for \(bytes.count) bytes")
            }
            acceptedByteCount &+= UInt64(bytes.count)
        } else if !bytes.isEmpty {
            core.flushBatch(of: self)
            guard output == .layered else { return .closed }
            acceptedByteCount &+= UInt64(bytes.count)
            handToLayer(bytes)
            guard output == .layered else { return .closed }
        }
        return bufferedByteCount < Int(highWaterMark) ? .flowing : saturate()
    }

    @inline(__always)
    private func addToBatch(_ bytes: Span<UInt8>) -> Bool {
        guard core.batch.appendLent(bytes, of: self) > 0 || core.batch.append(bytes, of: self) else { return false }
        core.batch.currentIsLayered()
        return true
    }

    /// What was batched, or is too large for that.
    func handToLayer(_ bytes: Span<UInt8>) {
        guard let layer else { return }
        switch layer.phase {
        case .waiting, .handshaking, .opening:
            layer.held.append(copying: bytes)
            setQueuedByteCount(layer.driverQueue + layer.held.count)
        case .open: layer.seal(bytes, self)
        case .muted: unsentByteCount += UInt64(bytes.count)
        }
    }

    /// Counts written bytes that the layer could not send.
    package func dropFromLayer(_ count: Int) { unsentByteCount += UInt64(count) }

    /// What `ConnectionLayer.handOver` does.
    func handOverSealed(_ bytes: Span<UInt8>, _ layer: ConnectionLayer) {
        guard !bytes.isEmpty, !isOver else { return }
        let queued = driver.send(bytes)
        layer.handedOverCount &+= UInt64(truncatingIfNeeded: bytes.count)
        if queued >= 0 { layer.handedOver(bytes, queued: queued) }
        // The usual case: nothing is queued, and no completion, time-out or `onDrain` is due.
        if queued == 0, queuedByteCount == 0, watch == .layered { return }
        sealedHandedOver(queued, count: bytes.count, layer)
    }

    /// What had to wait for a host's address: sealed bytes too, if there is a layer.
    func handOverRaw(keeping bytes: [UInt8]) {
        guard let layer else { return handOver(keeping: bytes) }
        let queued = driver.send(keeping: bytes)
        if queued >= 0 { layer.driverQueueChanged(to: queued) }
        sealedHandedOver(queued, count: bytes.count, layer)
    }

    @inline(never)
    private func sealedHandedOver(_ queued: Int, count: Int, _ layer: ConnectionLayer) {
        guard queued >= 0 else {
            let lost = layer.removeOutput()
            unsentByteCount += UInt64(lost)
            setQueuedByteCount(0)
            return writeFailed(IOError(call: "send", errno: Int32(-queued), address: remoteAddress))
        }
        let wasEmpty = queuedByteCount == 0
        let hasMoved = wasEmpty || queued < layer.driverQueue + count
        if watch.contains(.timeouts), hasMoved { lastWriteAt = core.milliseconds }
        layer.driverQueue = queued
        setQueuedByteCount(queued + layer.held.count)
        guard !isOver else { return }
        if wasEmpty, queuedByteCount > 0 { timeoutsChanged() }
        if isOwedSomething { putOffDelivery() }
    }

    /// How many written bytes the peer has taken at least, when its kernel has acknowledged this many sealed ones. A
    /// sealed byte that is missing counts as a written one.
    func takenByteCount(_ acknowledged: UInt64, _ layer: ConnectionLayer) -> UInt64 {
        let sent = layer.handedOverCount - UInt64(layer.driverQueue)
        let written = bytesWritten
        return written - min(written, sent - min(sent, acknowledged))
    }

    /// The driver has told, or was asked, that its queue holds `queued` bytes.
    func noteLayerProgress(_ queued: Int) {
        guard let layer, queued < layer.driverQueue else { return }
        if watch.contains(.timeouts) { lastWriteAt = core.milliseconds }
        layer.driverQueue = queued
        layer.driverQueueChanged(to: queued)
        setQueuedByteCount(queued + layer.held.count)
    }

    // MARK: The end

    /// What `end()` does: FIN follows the layer's own end.
    func finishOutput() {
        guard let layer else { return driver.finish() }
        if layer.finish() { driver.finish() }
    }

    /// Whether both sides had finished, and only the layer's answer to the peer's end met a reset. The peer does not
    /// need it, and may have closed already.
    var isOnlyLayerEndLost: Bool { input == .ended && unsentByteCount == 0 }

    /// Whether nothing but FIN is left to be sent.
    var isOutputFinished: Bool { layer?.isFinished ?? true }

    /// Sends the layer's own end, unless its handshake is not done or its output has failed.
    func finishLayer() {
        _ = layer?.finish()
    }

    /// Closes with RST, or with the layer's own end in front of FIN.
    func closeDriverInOrder(resetting: Bool) {
        if !resetting { finishLayer() }
        closeDriver(resetting: resetting)
    }
}

extension ConnectionLayer {
    /// Begins the handshake; false if it has begun before.
    func driverOpened() -> Bool {
        guard phase == .waiting, let connection else { return false }
        phase = .handshaking
        if connection.lifecycle != .flushing { connection.waitForOpening() }
        connection.timeoutsChanged()
        connection.driver.startReading()
        guard phase == .handshaking, !connection.isOver else { return true }
        begin()
        return true
    }

    /// Whether the loop has something to do for the handshake.
    var isWaitingForLoop: Bool {
        guard let driver = connection?.driver else { return false }
        return phase == .waiting ? driver.hasRoom : !kept.isEmpty || driver.hasInput
    }

    /// Bytes as they were written, which the kernel has not taken.
    var unsentByteCount: Int { held.count + sealedByteCount }

    /// Hands over the layer's own end, behind all that was written. False if that has to wait for the handshake.
    func finish() -> Bool {
        isFinishWanted = true
        switch phase {
        case .waiting, .handshaking: return false
        case .opening where !held.isEmpty: return false
        case .opening, .open, .muted: break
        }
        guard !isFinished else { return true }
        isFinished = true
        if phase != .muted { sealEnd() }
        return true
    }

    /// Nothing more is sent. Returns how many bytes, as they were written, are lost.
    func removeOutput() -> Int {
        let lost = unsentByteCount
        if phase != .handshaking { phase = .muted }
        held = []
        driverQueue = 0
        driverQueueChanged(to: 0)
        return lost
    }

    func connectionClosed(_ reason: CloseReason) {
        closed(reason)
        letGo()
    }

    /// The loop is let go: no callback runs.
    func connectionAbandoned() {
        abandoned()
        letGo()
    }

    private func letGo() {
        connection = nil
        phase = .muted
        held = []
        kept = []
    }
}
