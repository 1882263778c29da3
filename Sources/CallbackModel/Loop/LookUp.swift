internal import Synchronization

extension EventLoop {
    /// A question to the resolver, made by ``EventLoop/resolve(host:port:_:)``.
    ///
    /// The loop owns it until the answer has come or it was cancelled.
    public final class LookUp {
        private let core: LoopCore
        private let port: UInt16
        private var state: State

        private typealias Body = (Result<[SocketAddress], IOError>) -> Void

        private enum State {
            /// A number: the answer is known, and told in the next turn.
            case known(Result<[SocketAddress], IOError>, DeferredQueue.Ticket, Body)
            /// A name: others may wait for the same answer.
            case asked(LookUps.Question, Body)
            /// Answered, cancelled, or never begun.
            case ended
        }

        private init(core: LoopCore, port: UInt16) {
            self.core = core
            self.port = port
            state = .ended
        }

        static func begin(
            _ core: LoopCore, _ host: Host, port: UInt16, _ body: @escaping (Result<[SocketAddress], IOError>) -> Void
        ) throws(IOError) -> LookUp {
            let lookUp = LookUp(core: core, port: port)
            switch host {
            case .number(let address):
                lookUp.state = .known(address.map { [$0] }, core.putOff(.number(lookUp)), body)
            case .name(let name):
                lookUp.state = .asked(try core.lookUps.ask(name, lookUp), body)
                core.holdIfNeeded()
            }
            return lookUp
        }

        /// Whether the answer is still to come.
        var isWaiting: Bool { if case .ended = state { false } else { true } }

        /// Withdraws the question: `body` will not run, and the loop does not wait for the answer.
        ///
        /// If a thread has begun with the question, the thread is busy until the resolver returns: getaddrinfo(3)
        /// cannot be stopped. After the answer, this does nothing.
        public func cancel() {
            core.assertThread("LookUp.cancel")
            letGo(of: state) {
                let withdrawn = state
                state = .ended
                switch withdrawn {
                case .known(_, let ticket, _): core.withdraw(ticket)
                case .asked(let question, _):
                    core.lookUps.withdraw(from: question)
                    core.holdIfNeeded()
                case .ended: break
                }
            }
        }

        /// The loop is let go: the answer will never come.
        func abandon() {
            letGo(of: state) { state = .ended }
        }

        /// Tells the answer of a number.
        func answer() {
            guard case .known(let answer, _, _) = state else { return }
            tell(answer)
        }

        /// Tells the answer, which others may share, with this question's port.
        func tell(_ answer: Result<[SocketAddress], IOError>) {
            let body: Body
            switch state {
            case .known(_, _, let known): body = known
            case .asked(_, let asked): body = asked
            case .ended: return
            }
            state = .ended
            let port = port
            core.perform(.resolved) { body(answer.map { $0.map { $0.with(port: port) } }) }
        }
    }
}

/// The names that one loop has asked for. Questions for the same name at the same time share one look-up.
final class LookUps {
    /// One name, and the look-ups that wait for its addresses.
    final class Question {
        fileprivate let host: String
        fileprivate let answer = Answer()
        fileprivate var id: UInt64 = 0
        /// In order. Withdrawn ones are still here, but not in `waiting`.
        fileprivate var askers: [EventLoop.LookUp] = []
        fileprivate var waiting = 0

        fileprivate init(_ host: String) { self.host = host }
    }

    /// Carries an answer from its thread to the loop.
    fileprivate final class Answer: Sendable {
        private let result = Mutex<Result<[SocketAddress], IOError>?>(nil)

        func set(_ value: Result<[SocketAddress], IOError>) { result.withLock { $0 = value } }
        func get() -> Result<[SocketAddress], IOError>? { result.withLock { $0 } }
    }

    private let pool: ThreadPool
    private var questions: [String: Question] = [:]
    private var numbers: [UInt64: Question] = [:]
    /// How many wait for an answer.
    private var waiting = 0
    /// What blocks on a thread; another one in tests.
    var resolver: @Sendable (String) -> Result<[SocketAddress], IOError> = lookUp(name:)

    init(width: Int, ring: @escaping @Sendable () -> Void) {
        pool = ThreadPool(width: width, ring: ring)
    }

    /// Whether the loop waits for something.
    var isBusy: Bool { waiting > 0 }

    func ask(_ host: String, _ lookUp: EventLoop.LookUp) throws(IOError) -> Question {
        let question = if let known = unanswered(host) { known } else { try begin(host) }
        question.askers.append(lookUp)
        question.waiting += 1
        waiting += 1
        return question
    }

    /// An answer that has come before the loop looked may be old.
    private func unanswered(_ host: String) -> Question? {
        guard let question = questions[host], question.answer.get() == nil else { return nil }
        return question
    }

    private func begin(_ host: String) throws(IOError) -> Question {
        let question = Question(host)
        question.id = try pool.add { [answer = question.answer, resolver] in answer.set(resolver(host)) }
        questions[host] = question
        numbers[question.id] = question
        return question
    }

    /// One look-up does not wait any more.
    func withdraw(from question: Question) {
        question.waiting -= 1
        waiting -= 1
        if question.waiting == 0, pool.withdraw(question.id) { return forget(question) }
        // Otherwise look-ups that come and go while the resolver hangs would be remembered until it answers.
        if question.askers.count > 2 * question.waiting + 16 { question.askers.removeAll { !$0.isWaiting } }
    }

    private func forget(_ question: Question) {
        if questions[question.host] === question { questions[question.host] = nil }
        numbers[question.id] = nil
    }

    /// Calls back for what has been answered. `changed` comes before each callback.
    func becameReady(_ changed: () -> Void) {
        guard !numbers.isEmpty else { return }
        for id in pool.removeFinished() {
            guard let question = numbers[id], let answer = question.answer.get() else { continue }
            forget(question)
            // The callback of one may withdraw the question of another.
            for asker in question.askers where asker.isWaiting {
                question.waiting -= 1
                waiting -= 1
                changed()
                asker.tell(answer)
            }
        }
    }

    /// Does not wait: a thread that is still at work keeps what it needs, and its result is dropped.
    func close() {
        pool.close(waits: false)
        let left = numbers
        (questions, numbers, waiting) = ([:], [:], 0)
        for question in left.values {
            for asker in question.askers { asker.abandon() }
            question.askers = []
        }
    }
}
