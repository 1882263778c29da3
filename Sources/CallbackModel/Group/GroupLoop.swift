internal import Glibc
internal import Synchronization

extension EventLoop.Group {
    /// One loop of a group, as other threads see it.
    public final class Member: Sendable {
        /// Its number, from 0.
        public let index: Int
        let door: LoopBound<GroupLoop>
        let hasEnded = Atomic(false)

        init(index: Int, door: LoopBound<GroupLoop>) {
            self.index = index
            self.door = door
        }

        /// Runs `body` on the loop, later, as ``EventLoop/Waker/execute(_:)`` does. Any thread may call this. Returns
        /// false once the loop has ended.
        @discardableResult
        public func execute(_ body: @escaping @Sendable (EventLoop) -> Void) -> Bool {
            door.execute { body($0.loop) }
        }
    }
}

/// A loop of a group, on its own thread.
final class GroupLoop {
    unowned let loop: EventLoop
    /// Its parts of the group's listeners, by their numbers.
    var listeners: [Int: Listener] = [:]

    init(_ loop: EventLoop) {
        self.loop = loop
    }

    /// A thread's whole life: makes the loop, says so in `start`, runs it, calls `ending`, and closes what is open.
    /// Returns why it has ended, unless it was stopped.
    static func live(
        index: Int, start: Answers<Result<EventLoop.Group.Member, IOError>>,
        makeLoop: () throws(IOError) -> EventLoop, ending: () -> Void
    ) -> IOError? {
        do throws(IOError) {
            let loop = try makeLoop()
            // Although a callback may hold it: nobody runs it any more.
            defer { loop.core.shutDown() }
            loop.core.indexInGroup = index
            let hold = loop.hold()
            defer { hold.release() }
            let member = EventLoop.Group.Member(index: index, door: LoopBound(GroupLoop(loop), on: loop))
            guard start.give(.success(member), of: index) else { return nil }
            defer {
                member.hasEnded.store(true, ordering: .relaxed)
                ending()
            }
            try loop.run()
            return nil
        } catch {
            start.give(.failure(error), of: index)
            return error
        }
    }
}

/// What several threads answer, and a way to wait for it.
final class Answers<Answer: Sendable>: Sendable {
    private struct State {
        var answers: [Answer?]
        var isOver = false
    }

    private let state: Mutex<State>

    init(count: Int) {
        state = Mutex(State(answers: Array(repeating: nil, count: count)))
    }

    /// The first answer of each counts. Returns false if nobody waits for it any more.
    @discardableResult
    func give(_ answer: Answer, of index: Int) -> Bool {
        state.withLock { state in
            if state.answers[index] == nil, !state.isOver { state.answers[index] = answer }
            return !state.isOver
        }
    }

    /// Whether somebody still waits.
    var isWanted: Bool { state.withLock { !$0.isOver } }

    /// Waits until all have answered, for at most `limit`. Later answers do not count. Looks once a millisecond: a
    /// group waits when it begins, listens and ends, and not in between.
    func wait(atMost limit: Duration) -> [Answer?] {
        let end = ContinuousClock.now + limit
        while true {
            let isLate = ContinuousClock.now >= end
            let (answers, isOver) = state.withLock { state in
                state.isOver = isLate || !state.answers.contains { $0 == nil }
                return (state.answers, state.isOver)
            }
            if isOver { return answers }
            _ = poll(nil, 0, 1)
        }
    }
}
