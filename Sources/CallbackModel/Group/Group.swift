internal import CLinux
internal import Glibc

extension EventLoop {
    /// Several loops that serve together, each on a thread of its own: one for each core by default.
    ///
    /// The loops share nothing. A connection stays on one loop, whose callbacks need no lock.
    /// ``listen(on:options:distribution:_:)`` spreads the clients.
    ///
    /// ``loop`` is one more, the first loop. It runs in ``run()``, on the thread that has made the group. It serves no
    /// client: it accepts, if clients are spread evenly, and all callbacks of the group run there. Watch signals there.
    /// A callback of the first loop that captures the group keeps it for ever: write `[weak group]` there.
    ///
    /// The other loops run from the start, until ``stop()`` or until the group is let go. Then they close what they
    /// still hold, as any loop does that is let go. A group waits for that at most two seconds: a callback that does
    /// not return keeps its loop until it does.
    public final class Group {
        /// The first loop, for the thread that has made the group.
        public let loop: EventLoop
        /// The loops that serve.
        public private(set) var members: [Member] = []

        /// A loop has ended by itself: by ``EventLoop/stop()``, or by an error of its wait. The ends that ``stop()``
        /// brings about are not told. The loop's connections are closed. The others serve on, and clients on their way
        /// to it go to them. When the last one has ended, the listeners of the group close. Runs on the first loop.
        public var onLoopEnd: ((Group, Int, IOError?) -> Void)?

        /// How long letting go of a group waits for its loops: twice as long as a loop waits for its tasks.
        static let patience = Duration.seconds(2)
        /// How long a call that needs the answer of every loop waits for it.
        static let answerLimit = Duration.seconds(5)

        let door: LoopBound<GroupDoor>
        private let ended: Answers<Bool>
        private var isStopped = false
        /// What holds the first loop for those that are ending.
        private var ending: [Int: EventLoop.Hold] = [:]
        var listeners: [Int: GroupListener] = [:]
        var listenerCount = 0
        var watch: HangWatch?

        /// A group of `count` loops that `makeLoop` makes, each on its thread; users write `EventLoop.Group(…)`.
        @_spi(Engine)
        public init(
            count: Int, makeLoop: @escaping @Sendable () throws(IOError) -> EventLoop
        ) throws(IOError) {
            guard Self.counts.contains(count) else {
                throw .invalid(
                    "EventLoop.Group",
                    "a count of \(count) is not between \(Self.counts.lowerBound) and \(Self.counts.upperBound)")
            }
            loop = try makeLoop()
            let door = GroupDoor()
            self.door = LoopBound(door, on: loop)
            ended = Answers(count: count)
            door.group = self
            let start = Answers<Result<Member, IOError>>(count: count)
            var failure: IOError?
            for index in 0..<count {
                do throws(IOError) {
                    let thread = try makeThread { [door = self.door, ended] in
                        linux_name_loop_thread(Int32(index))
                        let error = GroupLoop.live(index: index, start: start, makeLoop: makeLoop) {
                            door.execute { $0.group?.loopEnds(index) }
                        }
                        ended.give(true, of: index)
                        door.execute { $0.group?.loopEnded(index, error) }
                    }
                    pthread_detach(thread)
                } catch {
                    start.give(.failure(error), of: index)
                    ended.give(true, of: index)
                }
            }
            for answer in start.wait(atMost: Self.answerLimit) {
                switch answer {
                case .success(let member)?: members.append(member)
                case .failure(let error)?: failure = failure ?? error
                case nil: failure = failure ?? .invalid("EventLoop.Group", "a loop does not begin", errno: ETIMEDOUT)
                }
            }
            // The loops that live end as the group goes.
            if let failure { throw failure }
        }

        deinit {
            // A child of fork(2) has none of the loops, and their sockets are the parent's.
            guard loop.core.isInOwnProcess else { return }
            for listener in listeners.values { listener.abandon() }
            stopLoops()
            _ = ended.wait(atMost: Self.patience)
        }

        /// How many loops a group may have.
        static let counts = 1...1_024

        /// How many cores this process may use (sched_getaffinity(2)). A limit of processor time, as containers have,
        /// is not counted.
        public static var coreCount: Int { max(1, Int(linux_core_count())) }

        /// Runs the first loop, until nothing keeps it running: a listener of the group that is open, or has a
        /// connection on any loop, and all that keeps a loop running (``EventLoop/run(_:)``). What the other loops do
        /// besides does not: hold the first one (``EventLoop/hold()``) while it matters.
        public func run() throws(IOError) {
            try loop.run()
        }

        /// Ends every loop at the end of its turn, and ``run()`` with them. A group that was stopped serves no more.
        public func stop() {
            loop.core.assertThread("EventLoop.Group.stop")
            for listener in listeners.values { listener.close() }
            stopLoops()
            loop.stop()
        }

        private func stopLoops() {
            isStopped = true
            for member in members { member.execute { $0.stop() } }
        }

        /// Calls `ask` on every loop, and then `body` on the first one, once, with the answers in the order of the
        /// loops: `nil` for a loop that has ended, or has not answered within `limit`.
        ///
        /// - Precondition: `limit` is not negative.
        public func collect<Answer: Sendable>(
            within limit: Duration = .seconds(1), _ ask: @escaping @Sendable (EventLoop) -> Answer,
            then body: @escaping ([Answer?]) -> Void
        ) {
            require(limit >= .zero, "EventLoop.Group.collect: a limit of \(limit) is negative")
            loop.core.assertThread("EventLoop.Group.collect")
            let collection = Collection(count: members.count, on: loop, body)
            collection.wait(atMost: limit)
            let answers = LoopBound(collection, on: loop)
            for member in members {
                let isAsked = member.execute { loop in
                    let (answer, index) = (ask(loop), member.index)
                    answers.execute { $0.give(answer, of: index) }
                }
                if !isAsked { collection.give(nil, of: member.index) }
            }
        }

        /// What each loop has done so far; told as ``collect(within:_:then:)`` tells. Zeros unless
        /// ``EventLoop/Options/collectsMetrics`` is set.
        public func metrics(_ body: @escaping ([EventLoop.Metrics?]) -> Void) {
            collect({ $0.metrics }, then: body)
        }

        /// Holds the first loop until `loopEnded`, so that the end of the last loop is told too.
        private func loopEnds(_ index: Int) { ending[index] = loop.hold() }

        private func loopEnded(_ index: Int, _ error: IOError?) {
            let listeners = Array(listeners.values)
            // All know of it before user code runs.
            for listener in listeners { listener.loopEnded(index) }
            if !isStopped, let onLoopEnd { loop.core.performOnce(.group) { onLoopEnd(self, index, error) } }
            for listener in listeners { listener.goOn() }
            ending[index] = nil
        }
    }

    /// The number of this loop in its group, from 0; `nil` for the first loop, and without a group.
    public var indexInGroup: Int? { core.indexInGroup }
}

/// What the loops of a group name it by.
final class GroupDoor {
    weak var group: EventLoop.Group?
}

/// The answers of the loops of a group, on the first one.
private final class Collection<Answer> {
    private var answers: [Answer?]
    private var isGiven: [Bool]
    private var body: (([Answer?]) -> Void)?
    private unowned let loop: EventLoop
    private var timer: EventLoop.Timer?

    init(count: Int, on loop: EventLoop, _ body: @escaping ([Answer?]) -> Void) {
        answers = Array(repeating: nil, count: count)
        isGiven = Array(repeating: false, count: count)
        self.loop = loop
        self.body = body
    }

    /// The timer keeps the loop running, and this alive.
    func wait(atMost limit: Duration) {
        timer = EventLoop.Timer(core: loop.core, interval: nil, isInternal: true) { _ in self.end() }
        timer?.reschedule(after: limit)
    }

    func give(_ answer: Answer?, of index: Int) {
        guard !isGiven[index] else { return }
        isGiven[index] = true
        answers[index] = answer
        // No callback runs inside a call.
        if isGiven.allSatisfy(\.self) { timer?.reschedule(after: .zero) }
    }

    private func end() {
        timer = nil
        guard let body else { return }
        self.body = nil
        loop.core.perform(.group) { body(answers) }
    }
}
