internal import Synchronization

extension EventLoop.Group {
    /// A loop of a group whose callback does not return.
    public struct Hang: Hashable, Sendable {
        /// The number of the loop.
        public let loop: Int
        /// How long it has not answered, to a quarter of the threshold.
        public let duration: Duration
        /// Whether it answers again.
        public let isOver: Bool
    }

    /// Calls `body` when a loop of the group has not answered for `threshold`, and once more when it answers again or
    /// has ended. Meanwhile its connections are not served, and with ``Distribution/evenly`` no client goes to it.
    ///
    /// It asks each loop four times in `threshold`, which wakes a loop at rest. Whatever keeps a loop from its turn
    /// counts: a callback that computes or blocks, or a processor that is busy elsewhere. A second call replaces the
    /// first.
    ///
    /// - Precondition: `threshold` is at least 4 milliseconds.
    public func onHang(longerThan threshold: Duration, _ body: @escaping (Hang) -> Void) {
        require(threshold >= .milliseconds(4), "onHang: the threshold \(threshold) is less than 4 milliseconds")
        loop.core.assertThread("EventLoop.Group.onHang")
        watch?.end()
        let watch = HangWatch(threshold: threshold, count: members.count, body: body)
        watch.timer = EventLoop.Timer(core: loop.core, interval: threshold / 4, isInternal: true) {
            [weak self] _ in
            guard let self else { return }
            for hang in watch.look(at: members) { loop.core.performOnce(.group) { watch.body(hang) } }
        }
        watch.timer?.unref()
        watch.timer?.reschedule(after: .zero)
        letGo(of: self.watch) { self.watch = watch }
    }
}

/// Asks the loops of a group whether they still have turns.
final class HangWatch {
    let body: (EventLoop.Group.Hang) -> Void
    var timer: EventLoop.Timer?
    private let threshold: Duration
    private var states: [State]

    private struct State {
        /// The number of the last question, and when it was asked.
        var asked: UInt64 = 0
        var since = ContinuousClock.now
        var isTold = false
        let answer = Answer()
    }

    /// The number of the question that a loop has answered last.
    private final class Answer: Sendable {
        let number = Atomic<UInt64>(0)
    }

    init(threshold: Duration, count: Int, body: @escaping (EventLoop.Group.Hang) -> Void) {
        self.threshold = threshold
        self.body = body
        states = (0..<count).map { _ in State() }
    }

    func end() {
        timer?.cancel()
        // It holds this.
        timer = nil
    }

    func isHanging(_ index: Int) -> Bool { states[index].isTold }

    /// Looks for answers, asks again where one has come, and returns what there is to tell.
    func look(at members: [EventLoop.Group.Member]) -> [EventLoop.Group.Hang] {
        members.compactMap { look(at: $0) }
    }

    private func look(at member: EventLoop.Group.Member) -> EventLoop.Group.Hang? {
        let index = member.index
        let state = states[index]
        let now = ContinuousClock.now
        let duration = now - state.since
        let hasEnded = member.hasEnded.load(ordering: .relaxed)
        if hasEnded || state.answer.number.load(ordering: .relaxed) == state.asked {
            let (question, answer) = (state.asked + 1, state.answer)
            states[index].asked = question
            states[index].since = now
            states[index].isTold = false
            member.door.execute { _ in answer.number.store(question, ordering: .relaxed) }
            return state.isTold ? EventLoop.Group.Hang(loop: index, duration: duration, isOver: true) : nil
        }
        guard duration >= threshold, !state.isTold else { return nil }
        states[index].isTold = true
        return EventLoop.Group.Hang(loop: index, duration: duration, isOver: false)
    }
}
