import CallbackServer

/// Keys, their values, and when they expire, within a bound of memory.
final class Store {
    /// Any bytes: a key need not be text.
    typealias Bytes = [UInt8]

    /// What a key costs beside its own bytes and its value's, roughly: two arrays, a place in the table, a timer.
    static let costOfKey = 512

    private struct Entry {
        var value: Bytes
        var expiry: Expiry?
    }

    private struct Expiry {
        let at: EventLoop.Instant
        let timer: EventLoop.Timer
    }

    private unowned let loop: EventLoop
    private let memory: Int
    private var used = 0
    private var entries: [Bytes: Entry] = [:]

    /// At most `memory` bytes.
    init(_ loop: EventLoop, memory: Int) {
        self.loop = loop
        self.memory = memory
    }

    subscript(key: Bytes) -> Bytes? { entries[key]?.value }

    /// Sets the value; it expires as before, or not at all. False if there is no memory for it.
    func set(_ key: Bytes, to value: Bytes, keepingExpiry: Bool = false) -> Bool {
        let former = entries[key]
        let freed = former.map { $0.value.count } ?? -(key.count + Self.costOfKey)
        guard used - freed + value.count <= memory else { return false }
        used += value.count - freed
        if !keepingExpiry { former?.expiry?.timer.cancel() }
        entries[key] = Entry(value: value, expiry: keepingExpiry ? former?.expiry : nil)
        return true
    }

    /// Whether there was something to remove.
    @discardableResult
    func remove(_ key: Bytes) -> Bool {
        guard let entry = entries.removeValue(forKey: key) else { return false }
        entry.expiry?.timer.cancel()
        used -= key.count + entry.value.count + Self.costOfKey
        return true
    }

    /// Removes the key after `delay`. A timer for each key is what the loop makes cheap.
    func expire(_ key: Bytes, after delay: Duration) {
        guard entries[key] != nil else { return }
        entries[key]?.expiry?.timer.cancel()
        let timer = loop.schedule(after: delay) { [weak self] _ in self?.remove(key) }
        // A key that expires tomorrow keeps no server running.
        timer.unref()
        entries[key]?.expiry = Expiry(at: loop.now.advanced(by: delay), timer: timer)
    }

    /// How long the key will be there; nothing if that is for ever.
    func timeLeft(_ key: Bytes) -> Duration? {
        entries[key]?.expiry.map { loop.now.duration(to: $0.at) }
    }
}
