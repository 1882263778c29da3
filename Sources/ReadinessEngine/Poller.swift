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
/// The kernel hands out a closed number again at once. Without the generation, an event that was fetched before the
/// close would reach the number's new owner (contract clause 10).
struct Token: Equatable {
    /// Both in one word, which epoll stores with the descriptor.
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

/// The events of one wait. Its array is never emptied, only written over: to empty one would cost more than the wait.
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

/// Which of the kernel's interfaces a loop waits with.
package enum PollerKind: CaseIterable, Sendable {
    case epoll, poll, select
}

/// One kernel interface that waits for many descriptors at once, level-triggered: a descriptor that is ready is
/// reported at each wait, until it is dealt with.
///
/// The kernel always reports errors and hang-ups. A descriptor that is waited for neither reading nor writing must
/// therefore not be in the set, or an error would be reported at every wait, and the loop would spin.
protocol Poller: AnyObject {
    /// The poller can wait for descriptors below this number; `nil` if for all.
    var descriptorLimit: Int32? { get }

    /// Changes what `token` is waited for. With an empty `new`, it leaves the set.
    ///
    /// A descriptor leaves before it is closed. close(2) would do the same only for epoll, and only without a duplicate
    /// of the descriptor (epoll(7), "Questions and answers", 6).
    func change(_ token: Token, from old: Readiness, to new: Readiness) throws(IOError)

    /// Waits for one descriptor more to become readable; with `nil`, no longer for that one. It is seldom ready, so it
    /// is looked at last, where it makes no wait longer.
    func watchLast(_ token: Token?) throws(IOError)

    /// Waits until a descriptor is ready, at most `milliseconds`; without a bound if that is negative.
    ///
    /// Returns how many descriptors are ready, or a negative number if a signal has ended the wait. The loop then waits
    /// again, since it knows how much of the time is left.
    func wait(milliseconds: Int32) throws(IOError) -> Int

    /// An event of the last wait, from 0 on, whatever has changed since.
    func event(_ index: Int) -> Event

    /// Closes what the kernel holds for it.
    func close()
}

/// The poller of a loop. A new poller is a case here, and the compiler then names every place that lacks it.
enum AnyPoller {
    case epoll(EpollPoller)
    case poll(PollPoller)
    case select(SelectPoller)

    init(_ kind: PollerKind) throws(IOError) {
        switch kind {
        case .epoll: self = .epoll(try EpollPoller())
        case .poll: self = .poll(PollPoller())
        case .select: self = .select(SelectPoller())
        }
    }

    var poller: any Poller {
        switch self {
        case .epoll(let poller): poller
        case .poll(let poller): poller
        case .select(let poller): poller
        }
    }

    var descriptorLimit: Int32? { poller.descriptorLimit }

    func change(_ token: Token, from old: Readiness, to new: Readiness) throws(IOError) {
        try poller.change(token, from: old, to: new)
    }

    func watchLast(_ token: Token?) throws(IOError) {
        try poller.watchLast(token)
    }

    func close() {
        poller.close()
    }
}
