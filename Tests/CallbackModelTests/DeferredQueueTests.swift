import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Queue of what is put off` {
    /// What is done to a queue, and what is in it then.
    private enum Step {
        /// Under the letter by which later steps name it.
        case append(Character, DeferredQueue.Item)
        case withdraw(Character)
        case unref(Character)
        case turn
    }

    private let loop = EventLoop(driver: ScriptedLoop())

    private func timer(isReferenced: Bool = true) -> EventLoop.Timer {
        let timer = EventLoop.Timer(core: loop.core, interval: nil) { _ in }
        if !isReferenced { timer.unref() }
        return timer
    }

    private func play(_ steps: [Step]) -> (items: [String], keepingCount: Int) {
        var queue = DeferredQueue()
        var tickets: [Character: DeferredQueue.Ticket] = [:]
        for step in steps {
            switch step {
            case .append(let name, let item): tickets[name] = queue.append(item)
            case .withdraw(let name): queue.withdraw(tickets[name]!)
            case .unref(let name):
                guard case .timer(let timer)? = queue.items[tickets[name]!.index] else { continue }
                timer.unref()
                queue.referenceChanged(of: tickets[name]!, isReferenced: false)
            case .turn: _ = queue.removeAll()
            }
        }
        let items = queue.items.map { item in
            switch item {
            case .timer: "timer"
            case .connection: "connection"
            case .closed: "closed"
            case .closedListener: "closedListener"
            case .number: "number"
            case .wakes: "wakes"
            case .overload: "overload"
            case nil: "-"
            }
        }
        return (items, queue.keepingCount)
    }

    @Test func `holds what was put off and not withdrawn, in order, until the turn`() {
        let table: [(steps: [Step], items: [String], keepingCount: Int)] = [
            ([], [], 0),
            ([.append("a", .wakes), .append("b", .overload)], ["wakes", "overload"], 2),
            (
                [.append("a", .timer(timer())), .append("b", .timer(timer(isReferenced: false)))], ["timer", "timer"], 1
            ),
            ([.append("a", .closed(IdleStream()))], ["closed"], 0),
            // A hole keeps the places of those behind it; none is left at the end.
            ([.append("a", .wakes), .append("b", .overload), .withdraw("a")], ["-", "overload"], 1),
            ([.append("a", .wakes), .append("b", .overload), .withdraw("b")], ["wakes"], 1),
            ([.append("a", .wakes), .append("b", .overload), .withdraw("a"), .withdraw("b")], [], 0),
            ([.append("a", .timer(timer())), .unref("a")], ["timer"], 0),
            ([.append("a", .timer(timer())), .unref("a"), .withdraw("a")], [], 0),
            ([.append("a", .wakes), .turn], [], 0),
            // A ticket of an earlier turn is worthless, also if its place is taken.
            ([.append("a", .wakes), .turn, .append("b", .overload), .withdraw("a")], ["overload"], 1),
            ([.append("a", .wakes), .turn, .withdraw("a")], [], 0),
        ]
        for (number, row) in table.enumerated() {
            let result = play(row.steps)
            #expect(result.items == row.items, "row \(number)")
            #expect(result.keepingCount == row.keepingCount, "row \(number)")
        }
    }

    @Test func `gives what is due with the tickets that it had`() {
        var queue = DeferredQueue()
        _ = queue.append(.wakes)
        _ = queue.removeAll()
        _ = queue.append(.wakes)
        let ticket = queue.append(.overload)
        let due = queue.removeAll()
        #expect(ticket == DeferredQueue.Ticket(round: due.round, index: 1))
        #expect(due.items.count == 2)
    }
}

/// For its place in the queue alone.
private final class IdleStream: StreamDriver {}
