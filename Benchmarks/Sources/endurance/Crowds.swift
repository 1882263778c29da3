import Foundation

/// Clients that each send a byte a second, spread evenly over it.
final class Drip {
    private(set) var sent = 0
    private(set) var lost = 0
    private(set) var failure: String?
    private let crowd: Crowd
    private var waiting: [Crowd.Member] = []
    /// Whose turn it is next, and the part of a turn that is over.
    private var next = 0
    private var owed = 0.0
    private var lastTurn = ContinuousClock.now

    private static let interval: Duration = .milliseconds(1)
    /// A longer time between two turns is a break, for which nothing is sent.
    private static let longestInterval: Duration = .milliseconds(20)
    private static let answerLimit: Duration = .seconds(10)

    init(_ crowd: Crowd) { self.crowd = crowd }

    /// Sends what is due, takes the answers that are there, and sleeps for a millisecond.
    func turn() {
        let now = ContinuousClock.now
        let elapsed = now - lastTurn
        lastTurn = now
        if elapsed < Self.longestInterval { owed += Double(crowd.members.count) * elapsed.seconds }
        while owed >= 1, !crowd.members.isEmpty {
            owed -= 1
            send(crowd.members[next])
            next = (next + 1) % crowd.members.count
        }
        takeAnswers()
        pause(Self.interval)
    }

    private func send(_ member: Crowd.Member) {
        attempt {
            if try member.sendSome(1) == 1 { sent += 1 }
            waiting.append(member)
        }
    }

    private func takeAnswers() {
        waiting = waiting.filter { member in
            var isThere = true
            attempt { isThere = try member.receiveEchoes() }
            return !isThere
        }
    }

    private func attempt(_ body: () throws -> Void) {
        do { try body() } catch {
            lost += 1
            failure = failure ?? "\(error)"
        }
    }

    /// Waits for the answers that are on their way.
    func finish() {
        let deadline = ContinuousClock.now + Self.answerLimit
        while !waiting.isEmpty, ContinuousClock.now < deadline {
            takeAnswers()
            pause(Self.interval)
        }
        lost += waiting.count
    }
}

/// Clients that send as long as they can and read nothing.
final class Glut {
    private let crowd: Crowd
    private var next = 0

    /// A server that takes so much of one that reads nothing keeps it all in memory.
    private static let mostSentEach = 1 << 20
    /// In the server: the high water mark, one read beyond it, and what an allocator loses.
    static let mostBytesEach = 192 << 10
    /// Nobody could send for so long: all are stuck.
    private static let stuckTime: Duration = .milliseconds(300)
    private static let turnSize = 20

    init(_ crowd: Crowd) { self.crowd = crowd }

    var sent: Int { crowd.members.reduce(0) { $0 + $1.sent } }
    var isBottomless: Bool { crowd.members.contains { $0.sent >= Self.mostSentEach } }

    /// Sends until nobody gets anything away any more.
    func fill() {
        var lastProgress = ContinuousClock.now
        while ContinuousClock.now - lastProgress < Self.stuckTime {
            for member in crowd.members where send(member) > 0 { lastProgress = .now }
            pause(.milliseconds(1))
        }
    }

    /// Tries again with some of them, and sleeps for a millisecond.
    func turn() {
        for _ in 0..<Self.turnSize where !crowd.members.isEmpty {
            _ = send(crowd.members[next])
            next = (next + 1) % crowd.members.count
        }
        pause(.milliseconds(1))
    }

    private func send(_ member: Crowd.Member) -> Int {
        let rest = Self.mostSentEach - member.sent
        return rest > 0 ? (try? member.sendSome(min(rest, Pattern.period))) ?? 0 : 0
    }

    /// Every second one reads all it is owed, exactly; the others reset. What went wrong, if something did.
    func readBack() -> String? {
        var failure: String?
        for (index, member) in crowd.members.enumerated() {
            guard index.isMultiple(of: 2) else {
                member.client.reset()
                continue
            }
            do {
                try member.receiveAll()
            } catch {
                failure = failure ?? "client \(index), which read at last: \(error)"
            }
            member.client.close()
        }
        return failure
    }
}
