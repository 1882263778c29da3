extension Connection {
    /// Sends `bytes` after all that was written before; copies what waits, so they can be reused at once.
    ///
    /// Never blocks. Small pieces written during one callback leave together when it returns; outside of
    /// callbacks each write is sent at once. Returns ``WriteStatus/saturated`` when the high water mark is
    /// reached, ``WriteStatus/closed`` when nothing can be sent any more.
    @discardableResult
    @inlinable @inline(__always)
    public func write(_ bytes: Span<UInt8>) -> WriteStatus {
        writeFast(self, bytes)
    }

    /// The same for an array. One of 1 KiB or more is kept by reference while it waits, not copied: a message to many
    /// connections is in memory once, however slow they are. It is copied if smaller pieces come before or behind it,
    /// if another such array waits in the same callback, or if less than half of its memory has to wait.
    @discardableResult
    public func write(_ bytes: [UInt8]) -> WriteStatus {
        bytes.count < Self.leastKept ? write(bytes.span) : writeKept(bytes)
    }

    /// 1 KiB: less is copied, which costs about as much as a reference and its place in a queue.
    static let leastKept = 1024

    /// Whether a queue keeps `array` for the sake of `count` of its bytes. Of an array that is nearly sent, or whose
    /// memory is mostly unused, it would keep more than it counts.
    package static func isKept(_ count: Int, of array: [UInt8]) -> Bool {
        count >= max(leastKept, array.capacity / 2)
    }

    /// The same for a part of an array; what waits is copied.
    @discardableResult
    public func write(_ bytes: ArraySlice<UInt8>) -> WriteStatus {
        write(bytes.span)
    }

    /// The same for the UTF-8 bytes of a string.
    @discardableResult
    public func write(_ text: String) -> WriteStatus {
        // Not `text.utf8.span`: Swift 6.3.1 let go of a short string, whose bytes are in its variable, before the
        // write, where this was inlined into another module.
        var text = text
        return text.withUTF8 { unsafe write($0.span) }
    }

    /// The same for the UTF-8 bytes of a literal.
    @discardableResult
    public func write(_ text: StaticString) -> WriteStatus {
        text.withUTF8Buffer { unsafe write($0.span) }
    }

    /// The same for several pieces, which leave in as few system calls as small ones can, also outside of callbacks.
    @discardableResult
    public func write(_ pieces: [[UInt8]]) -> WriteStatus {
        core.assertThread("Connection.write")
        let wasSaturated = watch.contains(.saturated)
        core.together {
            for piece in pieces { write(piece) }
        }
        guard output.isOpen else { return .closed }
        guard bufferedByteCount < Int(highWaterMark) else { return saturate() }
        // The batch may have been above it before the kernel took it. The caller is not told, so no `onDrain` is owed.
        if !wasSaturated { watch.remove(.saturated) }
        return .flowing
    }

    /// Writes large pieces, bytes behind a queue, outside of callbacks, and when the batch is full.
    fileprivate func writeSlowly(_ bytes: Span<UInt8>) -> WriteStatus {
        guard output == .open else { return writeLayered(bytes) }
        if bytes.isEmpty { return bufferedByteCount < Int(highWaterMark) ? .flowing : saturate() }
        if belongsInBatch(bytes.count) {
            // The batch is full.
            core.flushAll()
            // What was in the way may have failed, or be queued now.
            if output == .open, queuedByteCount == 0, core.batch.append(bytes, of: self) {
                return batched(bytes.count)
            }
        } else {
            core.flushBatch(of: self)
        }
        guard output == .open else { return .closed }
        acceptedByteCount &+= UInt64(bytes.count)
        handOver(bytes)
        return handedOverStatus
    }

    private func writeKept(_ bytes: [UInt8]) -> WriteStatus {
        core.assertThread("Connection.write")
        // A layer sends other bytes than these, so nothing is gained by keeping them.
        guard output == .open else { return writeLayered(bytes.span) }
        if belongsInBatch(bytes.count) {
            return core.batch.keep(bytes, of: self) ? batched(bytes.count) : writeCopied(self, bytes.span)
        }
        core.flushBatch(of: self)
        guard output == .open else { return .closed }
        acceptedByteCount &+= UInt64(bytes.count)
        handOver(keeping: bytes)
        return handedOverStatus
    }

    private func belongsInBatch(_ count: Int) -> Bool {
        core.isInCallback && queuedByteCount == 0 && WriteBatch.fits(count)
    }

    /// What a write returns when its bytes are in the batch.
    func batched(_ count: Int) -> WriteStatus {
        acceptedByteCount &+= UInt64(count)
        return core.batch.count(of: self) < Int(highWaterMark) ? .flowing : saturate()
    }

    /// What a write returns when the engine has its bytes.
    private var handedOverStatus: WriteStatus {
        guard output == .open else { return .closed }
        return queuedByteCount < Int(highWaterMark) ? .flowing : saturate()
    }

    func saturate() -> WriteStatus {
        if watch.insert(.saturated).inserted { saturationBegins() }
        return .saturated
    }

    /// Gives bytes to the driver, which sends or queues them. Runs no callback.
    @inline(__always)
    func handOver(_ bytes: Span<UInt8>) {
        let queued = driver.send(bytes)
        if queued == 0, watch.isEmpty { return }
        handedOver(queued, count: bytes.count)
    }

    /// The same for an array that is not copied.
    func handOver(keeping bytes: [UInt8]) {
        handedOver(driver.send(keeping: bytes), count: bytes.count)
    }

    private func handedOver(_ queued: Int, count: Int) {
        guard queued >= 0 else {
            unsentByteCount += UInt64(queuedByteCount + count)
            setQueuedByteCount(0)
            return writeFailed(IOError(call: "send", errno: Int32(-queued), address: remoteAddress))
        }
        let wasEmpty = queuedByteCount == 0
        // Bytes that only join the queue are no progress.
        let hasMoved = wasEmpty || queued < queuedByteCount + count
        if watch.contains(.timeouts), hasMoved { lastWriteAt = core.milliseconds }
        setQueuedByteCount(queued)
        if wasEmpty, queued > 0 { timeoutsChanged() }
        if isOwedSomething { putOffDelivery() }
    }

    /// Whether a completion or `onDrain` is due, now that the queue has changed.
    var isOwedSomething: Bool {
        if watch.contains(.completions), let rare, rare.completions.isDue(at: bytesWritten) { return true }
        return watch.contains(.saturated) && bufferedByteCount <= sharedOptions.value.lowWaterMark
    }

    func putOffDelivery() {
        guard !watch.contains(.putOff) else { return }
        watch.insert(.putOff)
        core.putOff(.connection(self))
    }

    /// Delivers what a flush owed: never inside the user's own call, and never twice in one turn. A fast peer and an
    /// eager `onDrain` would otherwise keep a turn from ending.
    func deliverDeferred() {
        watch.remove(.putOff)
        if watch.contains(.opened) {
            watch.remove(.opened)
            opened()
        }
        if watch.contains(.layered) { layerResumed() }
        if watch.contains(.framesHeld) { tellHeldFrames() }
        deliverProgress()
        closeIfEnded()
    }

    func deliverProgress() {
        // Before `onOpen` nothing is told; `opened` looks again.
        guard lifecycle != .closed, lifecycle != .connecting else { return }
        if watch.contains(.completions) { deliverCompletions(upTo: bytesWritten, .sent) }
        // Also after `end()`: a user who paused until the queue is short would never read the peer's FIN.
        guard watch.contains(.saturated), output != .closed else { return }
        guard bufferedByteCount <= sharedOptions.value.lowWaterMark else { return }
        watch.remove(.saturated)
        resumePipeSource()
        if let onDrain = drainCallback { core.perform(.drain) { onDrain(self) } }
    }

    /// Asks the driver how far a long write is: an engine may tell of it only when it is done.
    func noteProgress() {
        guard queuedByteCount > 0 else { return }
        let queued = driver.queuedByteCount
        if watch.contains(.layered) { return noteLayerProgress(queued) }
        guard queued < queuedByteCount else { return }
        setQueuedByteCount(queued)
        if watch.contains(.timeouts) { lastWriteAt = core.milliseconds }
    }

    /// What `StreamDriver.queueShrank` does.
    func queueShrank(to queued: Int) {
        if watch.contains(.layered) { noteLayerProgress(queued) } else { setQueuedByteCount(queued) }
        if watch.contains(.timeouts) { lastWriteAt = core.milliseconds }
        deliverProgress()
        closeIfFlushed()
    }

    /// What `StreamDriver.queueFailed` does.
    func queueFailed(_ error: IOError, unsent: Int?) {
        // Some of the queue may have left since the engine last told.
        let lost = layer?.removeOutput() ?? min(unsent ?? queuedByteCount, queuedByteCount)
        unsentByteCount += UInt64(lost)
        setQueuedByteCount(0)
        writeFailed(error)
    }
}

/// What ``Connection/write(_:)-(Span<UInt8>)`` does; `writeSlowly` does what does not fit here. A function: swift.md 6.
/// It has the parameters of `onData`, so an echo passes them on as they are.
@usableFromInline
func writeFast(_ connection: Connection, _ bytes: Span<UInt8>) -> WriteStatus {
    connection.core.assertThread("Connection.write")
    let count = bytes.count
    guard connection.output == .open, connection.queuedByteCount == 0, WriteBatch.fits(count) else {
        return writeSlowly(connection, bytes)
    }
    let batched = connection.core.batch.appendLent(bytes, of: connection)
    if batched == 0 { return writeCopied(connection, bytes) }
    connection.acceptedByteCount &+= UInt64(truncatingIfNeeded: count)
    return Int32(truncatingIfNeeded: batched) < connection.highWaterMark ? .flowing : saturated(connection)
}

/// Not inlined (swift.md 7).
@inline(never)
private func saturated(_ connection: Connection) -> WriteStatus {
    connection.saturate()
}

/// Not inlined: swift.md 7.
@inline(never)
private func writeCopied(_ connection: Connection, _ bytes: Span<UInt8>) -> WriteStatus {
    guard connection.core.isInCallback, connection.core.batch.append(bytes, of: connection) else {
        return writeSlowly(connection, bytes)
    }
    return connection.batched(bytes.count)
}

/// Not inlined: swift.md 7.
@inline(never)
private func writeSlowly(_ connection: Connection, _ bytes: Span<UInt8>) -> WriteStatus {
    connection.writeSlowly(bytes)
}
