import CallbackServer

/// Any bytes: a key need not be text.
struct Key: Hashable {
    let bytes: [UInt8]

    /// Eight bytes at a time; an array's own way, one by one, is what a request would cost most.
    func hash(into hasher: inout Hasher) {
        var word = UInt64(bytes.count)
        for (index, byte) in bytes.enumerated() {
            word = word &<< 8 | UInt64(byte)
            if index % 8 == 7 { hasher.combine(word) }
        }
        hasher.combine(word)
    }
}

/// Keys, their values, and when they expire, within a bound of memory.
final class Store {
    /// What a key costs beside its own bytes and its value's, roughly: two arrays, a place in the table, a timer.
    static let costOfKey = 512

    private struct Entry {
        var value: [UInt8]
        var expiry: Expiry?
    }

    private struct Expiry {
        let at: EventLoop.Instant
        let timer: EventLoop.Timer
    }

    private unowned let loop: EventLoop
    private let memory: Int
    private var used = 0
    private var entries: [Key: Entry] = [:]

    /// At most `memory` bytes.
    init(_ loop: EventLoop, memory: Int) {
        self.loop = loop
        self.memory = memory
    }

    subscript(key: Key) -> [UInt8]? { entries[key]?.value }

    /// Sets the value; it expires as before, or not at all. False if there is no memory for it.
    func set(_ key: Key, to value: [UInt8], keepingExpiry: Bool = false) -> Bool {
        guard let place = entries.index(forKey: key) else {
            let cost = key.bytes.count + value.count + Self.costOfKey
            guard used + cost <= memory else { return false }
            used += cost
            entries[key] = Entry(value: value)
            return true
        }
        let growth = value.count - entries.values[place].value.count
        guard used + growth <= memory else { return false }
        used += growth
        entries.values[place].value = value
        if !keepingExpiry, let expiry = entries.values[place].expiry {
            expiry.timer.cancel()
            entries.values[place].expiry = nil
        }
        return true
    }

    /// Whether there was something to remove.
    @discardableResult
    func remove(_ key: Key) -> Bool {
        guard let entry = entries.removeValue(forKey: key) else { return false }
        entry.expiry?.timer.cancel()
        used -= key.bytes.count + entry.value.count + Self.costOfKey
        return true
    }

    /// Removes the key after `delay`. A timer for each key is what the loop makes cheap.
    func expire(_ key: Key, after delay: Duration) {
        guard entries[key] != nil else { return }
        entries[key]?.expiry?.timer.cancel()
        let timer = loop.schedule(after: delay) { [weak self] _ in self?.remove(key) }
        // A key that expires tomorrow keeps no server running.
        timer.unref()
        entries[key]?.expiry = Expiry(at: loop.now.advanced(by: delay), timer: timer)
    }

    /// How long the key will be there; nothing if that is for ever.
    func timeLeft(_ key: Key) -> Duration? {
        entries[key]?.expiry.map { loop.now.duration(to: $0.at) }
    }
}
