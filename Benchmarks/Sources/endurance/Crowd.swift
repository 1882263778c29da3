import Foundation

/// Many clients in one thread, each with its own stream of bytes.
final class Crowd {
    private(set) var members: [Member] = []

    /// One of them.
    final class Member {
        let client: Client
        let pattern: Pattern
        var sent = 0
        var received = 0

        init(_ client: Client, _ pattern: Pattern) {
            self.client = client
            self.pattern = pattern
        }

        /// Takes what has come, and checks it. Whether all that was sent has come back.
        func receiveEchoes() throws -> Bool {
            while received < sent, let bytes = try client.receiveWithoutWaiting() {
                guard !bytes.isEmpty, bytes.count <= sent - received, pattern.matches(bytes, at: received) else {
                    throw ClientError(call: "the answer at byte \(received)", errno: EPROTO)
                }
                received += bytes.count
            }
            return received == sent
        }

        /// Waits for all that was sent.
        func receiveAll() throws {
            let deadline = ContinuousClock.now + Crowd.answerLimit
            while try !receiveEchoes() {
                guard ContinuousClock.now < deadline else { throw ClientError(call: "recv", errno: EAGAIN) }
                client.waitForInput(.milliseconds(10))
            }
        }

        /// Sends the next bytes of its stream, as many as the kernel takes.
        func sendSome(_ count: Int) throws -> Int {
            let count = try client.sendSome(pattern.bytes(at: sent, count: count), waits: false)
            sent += count
            return count
        }
    }

    /// Descriptors of this process beside the clients'.
    private static let spareDescriptors = 100
    /// How long all may take to answer.
    fileprivate static let answerLimit: Duration = .seconds(20)

    init(
        _ port: UInt16, count: Int, seed: UInt64, kernelBuffers: Int32? = nil, progress: (Int) -> Void = { _ in }
    ) throws {
        let limit = descriptorLimit()
        guard limit >= count + Self.spareDescriptors else {
            throw ClientError(
                call: "\(count) clients need a limit of \(count + Self.spareDescriptors) descriptors, it is \(limit)",
                errno: EMFILE)
        }
        for number in 0..<count {
            let client = try Client(port: port, source: 2 + number % Run.sources, kernelBuffers: kernelBuffers)
            members.append(Member(client, Pattern(seed: seed &+ UInt64(number))))
            progress(number)
        }
    }

    /// Each sends so many bytes, and all come back.
    func exchangeAll(_ count: Int, _ trial: Trial) throws {
        var waiting: [Member] = []
        for member in members {
            do {
                guard try member.sendSome(count) == count else { throw ClientError(call: "send", errno: EAGAIN) }
                waiting.append(member)
            } catch {
                try trial.lose("\(error)")
            }
        }
        let deadline = ContinuousClock.now + Self.answerLimit
        while !waiting.isEmpty, ContinuousClock.now < deadline {
            var rest: [Member] = []
            for member in waiting {
                do {
                    if try !member.receiveEchoes() { rest.append(member) }
                } catch {
                    try trial.lose("\(error)")
                }
            }
            waiting = rest
            if let first = waiting.first { first.client.waitForInput(.milliseconds(5)) }
        }
        trial.lose(count: waiting.count, "no whole answer within \(Self.answerLimit)")
    }

    func closeAll() {
        for member in members { member.client.close() }
        members = []
    }
}

extension Client {
    /// Waits until something can be received, or the time is over.
    func waitForInput(_ limit: Duration) {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        poll(&entry, 1, Int32(limit / .milliseconds(1)))
    }
}
