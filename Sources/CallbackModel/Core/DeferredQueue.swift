/// What the next turn begins with, in order: at most one item for each open object, and `nil` for
/// each that was withdrawn.
struct DeferredQueue {
    enum Item {
        case timer(EventLoop.Timer)
        case connection(Connection)
        /// A driver of the model's own that has closed.
        case closed(StreamDriver)
        /// The same of a listener.
        case closedListener(ListenerDriver)
        /// A number that was to be resolved.
        case number(EventLoop.LookUp)
        /// What other threads asked for before the loop ran.
        case wakes
        /// What there is to tell of an overload.
        case overload

        /// Whether the loop runs on because of it. It already runs on because of its connections.
        var keepsLoop: Bool {
            switch self {
            case .timer(let timer): timer.isReferenced
            case .connection, .closed, .closedListener: false
            case .number, .wakes, .overload: true
            }
        }
    }

    /// The place of an item. It is worthless once the turn has begun that the item waited for.
    struct Ticket: Equatable {
        let round: UInt64
        let index: Int
    }

    /// `nil` where an item was withdrawn.
    private(set) var items: [Item?] = []
    private var round: UInt64 = 0
    /// How many of the items keep the loop running.
    private(set) var keepingCount = 0

    var isEmpty: Bool { items.isEmpty }

    mutating func append(_ item: Item) -> Ticket {
        items.append(item)
        if item.keepsLoop { keepingCount += 1 }
        return Ticket(round: round, index: items.count - 1)
    }

    /// Removes the item of `ticket`, if it still waits.
    mutating func withdraw(_ ticket: Ticket) {
        guard ticket.round == round else { return }
        if items[ticket.index]?.keepsLoop ?? false { keepingCount -= 1 }
        items[ticket.index] = nil
        while let last = items.last, last == nil { items.removeLast() }
    }

    /// The timer of `ticket` was referenced, or no longer is.
    mutating func referenceChanged(of ticket: Ticket, isReferenced: Bool) {
        guard ticket.round == round else { return }
        keepingCount += isReferenced ? 1 : -1
    }

    /// Removes all items, with the round that their tickets have.
    mutating func removeAll() -> (round: UInt64, items: [Item?]) {
        let due = (round, items)
        items = []
        keepingCount = 0
        round += 1
        return due
    }
}
