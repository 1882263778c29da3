// Writes whose outcome is told.

/// What became of the bytes of one write.
public enum WriteResult: Hashable, Sendable {
    /// The kernel has taken them all.
    case sent
    /// The connection closed before all were known to be taken. An engine may hear of a write of several pieces only as
    /// a whole, also if only the last piece failed.
    case failed(CloseReason)
}

extension Connection {
    /// Like ``write(_:)-(Span<UInt8>)``. `completion` runs once: when the kernel has taken the last of these bytes, or
    /// else before `onClose`. Completions run in the order of the writes. A write that returns ``WriteStatus/closed``
    /// has none.
    @discardableResult
    public func write(
        _ bytes: Span<UInt8>, completion: @escaping (WriteResult) -> Void
    ) -> WriteStatus {
        guard expect(bytes.count, completion) else { return .closed }
        return expected(write(bytes))
    }

    /// The same for an array.
    @discardableResult
    public func write(_ bytes: [UInt8], completion: @escaping (WriteResult) -> Void) -> WriteStatus {
        guard expect(bytes.count, completion) else { return .closed }
        return expected(write(bytes))
    }

    /// The same for a part of an array.
    @discardableResult
    public func write(_ bytes: ArraySlice<UInt8>, completion: @escaping (WriteResult) -> Void) -> WriteStatus {
        guard expect(bytes.count, completion) else { return .closed }
        return expected(write(bytes))
    }

    /// The same for the UTF-8 bytes of a string.
    @discardableResult
    public func write(_ text: String, completion: @escaping (WriteResult) -> Void) -> WriteStatus {
        guard expect(text.utf8.count, completion) else { return .closed }
        return expected(write(text))
    }

    /// The same for several pieces; `completion` runs once, for all of them.
    @discardableResult
    public func write(_ pieces: [[UInt8]], completion: @escaping (WriteResult) -> Void) -> WriteStatus {
        guard expect(pieces.reduce(0) { $0 + $1.count }, completion) else { return .closed }
        return expected(write(pieces))
    }

    /// Registers the completion of `count` bytes before they are written, since the write itself may already owe it.
    private func expect(_ count: Int, _ completion: @escaping (WriteResult) -> Void) -> Bool {
        guard output.isOpen else { return false }
        needRare().completions.append(end: acceptedByteCount + UInt64(count), completion)
        watch.insert(.completions)
        return true
    }

    private func expected(_ status: WriteStatus) -> WriteStatus {
        if status == .closed { needRare().completions.removeLast() }
        if bufferedByteCount == 0, output.isOpen { putOffDelivery() }
        return status
    }

    /// Runs the completions of all bytes up to `position`.
    func deliverCompletions(upTo position: UInt64, _ result: WriteResult) {
        while let body = rare?.completions.popFirst(upTo: position) {
            core.perform(.completion) { body(result) }
        }
        if rare?.completions.isEmpty ?? true { watch.remove(.completions) }
    }
}
