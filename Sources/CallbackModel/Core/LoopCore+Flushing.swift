// How what is batched leaves. Runs no callback.

extension LoopCore {
    /// Sends what is batched, each connection's run in one piece.
    @inline(__always)
    func flushBatch() {
        if batch.isEmpty { return }
        // Nearly always only the connection whose callback it was has written.
        if batch.hasMore { return flushAll() }
        let run = batch.removeSingle()
        // A span of a buffer makes no check of the count, which is positive.
        let bytes = unsafe UnsafeBufferPointer(start: run.start, count: run.count)
        unsafe run.owner._withUnsafeGuaranteedRef { $0.handOver(unsafe Span(_unsafeElements: bytes)) }
    }

    /// Not inlined: swift.md 7.
    @inline(never)
    func flushAll() {
        while let run = batch.removeAny() { send(run) }
        batch.tidy()
    }

    /// Sends what is batched of `connection`, before something that must follow it.
    func flushBatch(of connection: Connection) {
        guard let run = batch.remove(of: connection) else { return }
        send(run)
        batch.tidy()
    }

    private func send(_ run: WriteBatch.Run) {
        // Held, whatever the sending does to the batch.
        let kept = batch.isKept(run) ? batch.kept : nil
        unsafe run.owner._withUnsafeGuaranteedRef { connection in
            // Never of a connection with a layer.
            if let kept { return connection.handOver(keeping: kept) }
            let bytes = unsafe Span(_unsafeStart: run.start, count: run.count)
            if connection.watch.contains(.layered) {
                connection.handToLayer(bytes)
            } else {
                connection.handOver(bytes)
            }
        }
    }

    /// Forgets what is batched of `connection`, which closes.
    func dropBatch(of connection: Connection) {
        if batch.remove(of: connection) != nil { batch.tidy() }
    }
}
