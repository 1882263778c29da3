internal import CLinux
internal import CallbackModel
internal import Glibc
internal import Synchronization

/// How far everything has come, for the threads of a run to see: the loop's and those of its peers.
///
/// Who waits leaves a doorbell, which is rung at each change; nobody sleeps and looks.
final class Board: Sendable {
    /// How far one connection has come on the side under test.
    struct Progress {
        var isOpened = false
        var received = 0
        var isEnded = false
        var isDrained = false
        var timeouts = 0
        var isClosed = false
        /// As the peer knows it.
        var isConnected = false
        /// Its peer is through.
        var hasLeft = false

        func has(_ milestone: Peer.Milestone) -> Bool {
            switch milestone {
            case .opened: isOpened
            case .received(let count): received >= count
            case .ended: isEnded
            case .drained: isDrained
            case .timedOut(let count): timeouts >= count
            case .closed: isClosed
            case .connected: isConnected
            case .left: hasLeft
            }
        }
    }

    private struct State {
        var progress: [Progress]
        var numbers: [String: Int] = [:]
        var outcomes: [Int: PeerOutcome] = [:]
        var verdict: Verdict?
        var waiting: [Int32] = []
        var threads: [StartedThread] = []
        var isOver = false
    }

    private let state: Mutex<State>

    init(peers: Int) {
        state = Mutex(State(progress: Array(repeating: Progress(), count: peers)))
    }

    /// Changes the progress of one connection and rings for whoever waits.
    func update(_ number: Int, _ change: (inout Progress) -> Void) {
        state.withLock { state in
            guard state.progress.indices.contains(number) else { return }
            change(&state.progress[number])
            ring(state)
        }
    }

    func progress(of number: Int) -> Progress {
        state.withLock { $0.progress[number] }
    }

    /// By what name the connection of a peer will be known on the other side.
    func register(_ name: String, as number: Int) {
        state.withLock { $0.numbers[name] = number }
    }

    func number(of name: String) -> Int? {
        state.withLock { $0.numbers[name] }
    }

    /// A peer is through.
    func finish(_ number: Int, _ outcome: PeerOutcome) {
        state.withLock { state in
            state.outcomes[number] = outcome
            state.progress[number].hasLeft = true
            ring(state)
        }
    }

    var outcomes: [Int: PeerOutcome] { state.withLock { $0.outcomes } }

    /// The loop's thread is through.
    func deliver(_ verdict: Verdict) {
        state.withLock { state in
            state.verdict = verdict
            ring(state)
        }
    }

    private func ring(_ state: borrowing State) {
        for bell in state.waiting { Doorbell.ring(bell) }
    }

    /// Waits until a connection has come so far; false when the time is over.
    func wait(for milestone: Peer.Milestone, of number: Int, until deadline: ContinuousClock.Instant) -> Bool {
        let answer: Bool? = wait(until: deadline) { state in
            if state.progress.indices.contains(number), state.progress[number].has(milestone) { return true }
            // The loop has ended: nothing will come any more.
            return state.verdict == nil ? nil : false
        }
        return answer ?? false
    }

    /// Waits until all peers are through; false when the time is over.
    func waitForPeers(_ count: Int, until deadline: ContinuousClock.Instant) -> Bool {
        wait(until: deadline) { $0.outcomes.count >= count ? true : nil } ?? false
    }

    /// Waits for the loop's thread; nothing when the time is over.
    func waitForVerdict(until deadline: ContinuousClock.Instant) -> Verdict? {
        wait(until: deadline) { $0.verdict }
    }

    /// A thread of the run has begun.
    func add(_ thread: StartedThread) {
        state.withLock { state in
            if state.isOver { thread.detach() } else { state.threads.append(thread) }
        }
    }

    /// Waits for the ends of the threads when all are through, and else leaves them to themselves.
    ///
    /// They have nothing left to do by then but to let go of what they have: a process that exited before would seem to
    /// leak it.
    func endThreads(areThrough: Bool) {
        let threads = state.withLock { state in
            state.isOver = true
            return state.threads
        }
        for thread in threads {
            if areThrough { thread.join() } else { thread.detach() }
        }
    }

    private func wait<Value>(
        until deadline: ContinuousClock.Instant, _ look: (borrowing State) -> Value?
    ) -> Value? {
        guard let bell = Doorbell() else { return nil }
        state.withLock { $0.waiting.append(bell.outside) }
        // Before the bell is gone, so that nobody rings at a number that is somebody else's by then.
        defer { state.withLock { state in state.waiting.removeAll { $0 == bell.outside } } }
        while true {
            if let value = state.withLock({ look($0) }) { return value }
            guard bell.wait(until: deadline) else { return state.withLock { look($0) } }
        }
    }
}

/// Something to wait at with a time limit: a pipe, one end to ring at, one to listen to.
///
/// A pipe and no pair of sockets, so that faults injected into calls on sockets do not reach it.
struct Doorbell: ~Copyable {
    let outside: Int32
    private let inside: Int32

    init?() {
        var ends: [Int32] = [-1, -1]
        guard unsafe linux_pipe2(&ends) == 0 else { return nil }
        inside = ends[0]
        outside = ends[1]
    }

    deinit {
        _ = Glibc.close(outside)
        _ = Glibc.close(inside)
    }

    static func ring(_ outside: Int32) {
        var byte: UInt8 = 1
        // A full one has been rung enough. SIGPIPE cannot come: both ends close together, when nobody rings any more.
        _ = unsafe write(outside, &byte, 1)
    }

    /// Waits for a ring; false when the time is over.
    borrowing func wait(until deadline: ContinuousClock.Instant) -> Bool {
        guard awaitReadiness(of: inside, POLLIN, until: deadline) else { return false }
        var heard: [UInt8] = Array(repeating: 0, count: 256)
        _ = unsafe read(inside, &heard, heard.count)
        return true
    }
}

/// Waits until a descriptor is ready, has an error or has hung up; false when the time is over (poll(2)).
package func awaitReadiness(of descriptor: Int32, _ events: Int32, until deadline: ContinuousClock.Instant) -> Bool {
    while true {
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        let left = ContinuousClock.now.duration(to: deadline)
        let count = unsafe poll(&entry, 1, Int32(clamping: max(0, left.wholeMilliseconds)))
        if count > 0 { return true }
        if count == 0, ContinuousClock.now >= deadline { return false }
        if count < 0, errno != EINTR { return true }
    }
}

/// A thread of its own, to be joined or detached once.
package struct StartedThread: Sendable {
    fileprivate let handle: pthread_t

    /// Waits until it has ended (pthread_join(3)).
    package func join() { pthread_join(handle, nil) }

    /// Leaves it to itself (pthread_detach(3)).
    package func detach() { pthread_detach(handle) }
}

/// Runs `body` on a thread of its own.
package func startThread(_ body: @escaping @Sendable () -> Void) -> StartedThread {
    do throws(IOError) {
        return StartedThread(handle: try makeThread(body))
    } catch {
        trap("a peer has no thread: \(error)")
    }
}
