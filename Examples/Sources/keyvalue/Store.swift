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
        /// In milliseconds of the loop's clock.
        let at: Int
        let timer: EventLoop.Timer
    }

    private unowned let loop: EventLoop
    private let memory: Int
    private var used = 0
    /// Bytes that clients have sent and that are not answered. A new value has no place where they are.
    private var unanswered = 0
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
            guard used + unanswered + cost <= memory else { return false }
            used += cost
            entries[key] = Entry(value: value)
            return true
        }
        let growth = value.count - entries.values[place].value.count
        guard growth <= 0 || used + unanswered + growth <= memory else { return false }
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

    /// Removes the key after so many milliseconds. A timer for each key is what the loop makes cheap.
    ///
    /// Beyond 100 years the timer is early, as the library's are.
    func expire(_ key: Key, after delay: Int) {
        guard entries[key] != nil else { return }
        entries[key]?.expiry?.timer.cancel()
        let timer = loop.schedule(after: .milliseconds(delay)) { [weak self] _ in self?.remove(key) }
        // A key that expires tomorrow keeps no server running.
        timer.unref()
        entries[key]?.expiry = Expiry(at: now + delay, timer: timer)
    }

    /// How many milliseconds the key will be there; `nil` if that is for ever.
    func timeLeft(_ key: Key) -> Int? {
        entries[key]?.expiry.map { $0.at - now }
    }

    private var now: Int { Int(loop.now.milliseconds) }

    // MARK: What clients have sent

    /// How much clients may keep here by not finishing their requests, in bytes: a quarter of the memory, and at least
    /// the longest request.
    private var mostUnanswered: Int { max(memory / 4, Request.longest) }

    /// A client's unanswered bytes are so many more; false if all clients together then have too many.
    func unansweredChanged(by change: Int) -> Bool {
        unanswered += change
        return unanswered <= mostUnanswered
    }
}
