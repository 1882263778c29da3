import CallbackServer
import Synchronization

/// What one loop has: its part of the keys, and its clients. Nothing else touches either, so nothing is locked.
final class Shard {
    private let keyLimit: Int
    private var values: [[UInt8]: [UInt8]] = [:]
    private(set) var clients: [Int: Client] = [:]
    private var clientCount = 0
    private let directory: Directory
    /// All shards, with this one, as they were when the first client came: the lock is taken once.
    private lazy var shards = directory.all
    /// Which of them this one is.
    private let index: Int
    private var isClosed = false

    init(_ index: Int, _ directory: Directory, keyLimit: Int) {
        self.index = index
        self.directory = directory
        self.keyLimit = keyLimit
    }

    func enter(_ connection: Connection) {
        clientCount += 1
        let client = Client(connection, self, number: clientCount)
        clients[client.number] = client
        connection.onClose = { [self] _, _ in clients[client.number] = nil }
        if isClosed { client.hangUp() } else { client.begin() }
    }

    /// Reads no more requests; what was asked is answered.
    func close() {
        isClosed = true
        for client in clients.values { client.hangUp() }
    }

    // MARK: Who owns a key

    /// The shards that have to be asked. All loops are of one process, so a hash is the same on each.
    func owners(for operation: Operation) -> Range<Int> {
        guard let key = operation.key else { return shards.indices }
        let owner = Int(UInt(bitPattern: key.hashValue) % UInt(shards.count))
        return owner..<owner + 1
    }

    /// Has the owner answer: at once if that is this shard, or by a message there and a message back.
    func ask(_ owner: Int, _ operation: Operation, _ request: Int, of client: Client) {
        if owner == index { return client.give(perform(operation), to: request) }
        let question = Question(from: shards[index], client: client.number, request: request)
        shards[owner].execute { question.answer($0.perform(operation)) }
    }

    /// An answer has come back. A client that has gone since is not here any more, and the answer is let go of.
    func answered(_ answer: Answer, _ request: Int, of client: Int) {
        clients[client]?.give(answer, to: request)
    }

    // MARK: What the owner does

    private func perform(_ operation: Operation) -> Answer {
        switch operation {
        case .get(let key):
            return values[key].map { .value($0) } ?? .noValue
        case .set(let key, let value):
            guard values.count < keyLimit || values[key] != nil else {
                return .error("the shard has \(keyLimit) keys already")
            }
            values[key] = value
            return .done
        case .delete(let key):
            return values.removeValue(forKey: key) == nil ? .noValue : .done
        case .count:
            return .count(values.count)
        }
    }
}

/// A request on its way to another loop.
///
/// A loop that has ended, or ends before it comes to the request, lets go of this without a call. The client is told
/// that too.
final class Question: Sendable {
    private let asker: LoopBound<Shard>
    private let client: Int
    private let request: Int
    private let isAnswered = Atomic(false)

    init(from asker: LoopBound<Shard>, client: Int, request: Int) {
        self.asker = asker
        self.client = client
        self.request = request
    }

    deinit {
        if !isAnswered.load(ordering: .relaxed) { answer(.error("the loop that owns the key has ended")) }
    }

    func answer(_ answer: Answer) {
        isAnswered.store(true, ordering: .relaxed)
        asker.execute { [client, request] in $0.answered(answer, request, of: client) }
    }
}
