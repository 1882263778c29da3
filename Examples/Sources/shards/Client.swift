import CallbackServer
import ExampleSupport

/// One client: its requests are answered in order, whichever shards they ask, and no faster than it reads.
final class Client {
    let number: Int
    private let connection: Connection
    private unowned let shard: Shard
    private var state = State.flowing
    /// The requests that are not answered, the oldest first.
    private var waiting: [Waiting] = []
    /// The number of the oldest.
    private var first = 0
    /// How many answers of shards are still to come.
    private var missing = 0

    private enum State {
        case flowing
        /// The answers wait for the client, and its requests for that.
        case saturated
        /// No more is read. The connection ends behind the last answer.
        case ending
    }

    private struct Waiting {
        /// How many shards have not said their part.
        var missing: Int
        /// What the others have said.
        var answer = Answer.count(0)
    }

    init(_ connection: Connection, _ shard: Shard, number: Int) {
        self.connection = connection
        self.shard = shard
        self.number = number
    }

    func begin() {
        connection.onLines(limit: Limits.line) { [self] _, line in read(line) }
        connection.onUnfinishedFrame = { [self] _, _ in answer(.error("the last line has no end")) }
        connection.onEnd = { [self] _ in hangUp() }
        connection.onDrain = { [self] _ in
            guard state == .saturated else { return }
            state = .flowing
            goOn()
        }
    }

    /// What was asked is answered, and then the connection ends.
    func hangUp() {
        guard state != .ending else { return }
        state = .ending
        connection.pause()
        goOn()
    }

    private func read(_ line: Span<UInt8>) {
        switch Request(line) {
        case .perform(let operation):
            let owners = shard.owners(for: operation)
            let request = expect(owners.count)
            for owner in owners { shard.ask(owner, operation, request, of: self) }
        case .refuse(let reason): answer(.error(reason))
        case .quit:
            answer(.done)
            hangUp()
        }
        // The next request is held where it is: in the loop's memory, and then in the kernel's.
        if max(waiting.count, missing) >= Limits.underWay { connection.pause() }
    }

    /// A place for the answer to the next request, behind the others.
    private func expect(_ count: Int) -> Int {
        waiting.append(Waiting(missing: count))
        missing += count
        return first + waiting.count - 1
    }

    /// The answer to the request that was just read.
    private func answer(_ answer: Answer) {
        give(answer, to: expect(1))
    }

    /// One shard has answered. What is whole, with nothing unanswered before it, is sent.
    func give(_ answer: Answer, to request: Int) {
        missing -= 1
        waiting[request - first].missing -= 1
        waiting[request - first].answer += answer
        let whole = waiting.prefix { $0.missing == 0 }
        for one in whole {
            guard connection.write(one.answer.line) == .saturated, state == .flowing else { continue }
            state = .saturated
            connection.pause()
        }
        first += whole.count
        waiting.removeFirst(whole.count)
        goOn()
    }

    private func goOn() {
        switch state {
        case .flowing: if max(waiting.count, missing) <= Limits.fewUnderWay { connection.resume() }
        case .saturated: break
        case .ending: if waiting.isEmpty { connection.finish(within: .farewell) }
        }
    }
}
