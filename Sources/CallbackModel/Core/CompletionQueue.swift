/// The completions that wait, in the order of their writes, each for a number of bytes to have been sent.
struct CompletionQueue {
    private struct Entry {
        let end: UInt64
        /// `nil` once delivered, so that what it captured is let go at once.
        var body: ((WriteResult) -> Void)?
    }

    private var entries: [Entry] = []
    /// How many at the front were delivered; removed when they are half, so that each costs constant time.
    private var delivered = 0

    var isEmpty: Bool { delivered == entries.count }

    mutating func append(end: UInt64, _ body: @escaping (WriteResult) -> Void) {
        entries.append(Entry(end: end, body: body))
    }

    /// Removes what was appended last and cannot be due yet.
    mutating func removeLast() {
        entries.removeLast()
    }

    func isDue(at position: UInt64) -> Bool {
        !isEmpty && entries[delivered].end <= position
    }

    mutating func popFirst(upTo position: UInt64) -> ((WriteResult) -> Void)? {
        guard isDue(at: position) else { return nil }
        let body = entries[delivered].body
        entries[delivered].body = nil
        delivered += 1
        if delivered * 2 > entries.count {
            entries.removeFirst(delivered)
            delivered = 0
        }
        return body
    }
}
