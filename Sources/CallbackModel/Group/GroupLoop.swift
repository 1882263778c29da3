internal import Glibc
internal import Synchronization

extension EventLoop.Group {
    /// One loop of a group, as other threads see it.
    public final class Member: Sendable {
        /// Its number, from 0.
        public let index: Int
        let door: LoopBound<GroupLoop>
        /// The question of the watch for hanging loops that it has answered last.
        let answered = Atomic<UInt64>(0)
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

    /// A thread's whole life: makes the loop, says so in `start`, runs it, and lets go of it. Returns why it has ended,
    /// unless it was stopped.
    static func live(
        index: Int, start: Answers<Result<EventLoop.Group.Member, IOError>>,
        makeLoop: () throws(IOError) -> EventLoop
    ) -> IOError? {
        do throws(IOError) {
            let loop = try makeLoop()
            loop.core.indexInGroup = index
            let hold = loop.hold()
            defer { hold.release() }
            let member = EventLoop.Group.Member(index: index, door: LoopBound(GroupLoop(loop), on: loop))
            start.give(.success(member), of: index)
            defer { member.hasEnded.store(true, ordering: .relaxed) }
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
    private let answers: Mutex<[Answer?]>

    init(count: Int) {
        answers = Mutex(Array(repeating: nil, count: count))
    }

    /// The first answer of each counts.
    func give(_ answer: Answer, of index: Int) {
        answers.withLock { if $0[index] == nil { $0[index] = answer } }
    }

    /// What has been answered so far.
    var all: [Answer?] { answers.withLock { $0 } }

    /// Waits until all have answered, for at most `limit`. Looks once a millisecond: it is called when a group begins
    /// and when it ends, and not in between.
    func wait(atMost limit: Duration) -> [Answer?] {
        let end = ContinuousClock.now + limit
        while true {
            let all = all
            if !all.contains(where: { $0 == nil }) || ContinuousClock.now >= end { return all }
            _ = poll(nil, 0, 1)
        }
    }
}
