@_spi(Engine) internal import CallbackModel

/// What a descriptor is waited for, or ready for.
struct Readiness: OptionSet, Sendable {
    let rawValue: UInt8

    /// A read would not block: bytes, the end or an error are there. For a listening socket, a client.
    static let readable = Readiness(rawValue: 1)
    /// A write would not block: there is room, or an error is there.
    static let writable = Readiness(rawValue: 2)
}

/// A descriptor and its generation.
///
/// The kernel hands a closed number out again at once. An event that was fetched before the close would then
/// reach the new owner of the number; its generation tells that it is not meant (contract clause 10).
struct Token: Equatable {
    /// Both in one word, as epoll carries it for its user.
    let bits: UInt64

    init(bits: UInt64) {
        self.bits = bits
    }

    init(descriptor: Int32, generation: UInt32) {
        bits = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
    }

    var descriptor: Int32 { Int32(truncatingIfNeeded: bits) }
    var generation: UInt32 { UInt32(truncatingIfNeeded: bits >> 32) }
}

/// A descriptor that has become ready.
struct Event {
    let token: Token
    let readiness: Readiness
}

/// The events of one wait. An array that is emptied without being touched: emptying a real one costs more than the
/// wait itself.
struct EventList {
    private var events: [Event] = []
    private(set) var count = 0

    mutating func removeAll() {
        count = 0
    }

    mutating func append(_ event: Event) {
        if count < events.count { events[count] = event } else { events.append(event) }
        count += 1
    }

    subscript(index: Int) -> Event {
        require(index < count, "an event beyond the last one of its wait")
        return events[index]
    }
}

/// One kernel interface that waits for many descriptors at once, level-triggered: what is ready is reported at
/// each wait, until it is dealt with.
///
/// Errors and hang-ups cannot be left out of what the kernel reports, so a descriptor that is waited for
/// nothing must not be in the set at all: it would be reported at every wait, and the loop would spin.
protocol Poller: AnyObject {
    /// The numbers that can be waited for are below this; nothing where every descriptor can.
    var descriptorLimit: Int32? { get }

    /// Changes what `token` is waited for; nothing means that it leaves the set.
    ///
    /// A descriptor leaves before it is closed. Closing would do the same for it alone, but not when it was
    /// duplicated (epoll(7), "Questions and answers", 6), and not for poll and select.
    func change(_ token: Token, from old: Readiness, to new: Readiness) throws(IOError)

    /// Waits until something is ready, or for so many milliseconds; for ever when negative, not at all when 0.
    ///
    /// Returns how many descriptors are ready; a negative number when a signal has ended the wait, which is no error
    /// and no event. The loop waits again: it knows how much of the time is left.
    func wait(milliseconds: Int32) throws(IOError) -> Int

    /// What the last wait found, from 0 on, whatever has been changed since.
    func event(_ index: Int) -> Event

    /// Gives back what the kernel holds for it.
    func close()
}
