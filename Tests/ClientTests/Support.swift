import CallbackServer
import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

/// What one connection of this side's making told, in order, and whether anything was told where it may not be.
final class Diary {
    enum Event: Equatable {
        case open
        /// As many bytes; neighbours are joined, since where a stream is cut means nothing.
        case data(Int)
        case end
        case drain
        case timeout(TimeoutKind)
        /// The completion of the write with this number, from 0.
        case completion(Int, WriteResult)
        case close(CloseReason)
    }

    private(set) var events: [Event] = []
    private(set) var bytes: [UInt8] = []
    /// What clause 1 of the contract forbids, as it was seen.
    private(set) var faults: [String] = []
    private let thread = pthread_self()
    private var running: [String] = []
    private var writeCount = 0

    // What a test does in the callbacks, beside writing them down.
    var onOpen: (Connection) -> Void = { _ in }
    var onData: (Connection) -> Void = { _ in }
    var onEnd: (Connection) -> Void = { _ in }
    var onDrain: (Connection) -> Void = { _ in }
    var onTimeout: (Connection, TimeoutKind) -> TimeoutAction = { _, _ in .close }
    var onClose: (Connection) -> Void = { _ in }

    /// Makes a connection and sets every callback of it.
    @discardableResult
    func follow(_ make: () throws -> Connection) rethrows -> Connection {
        let connection = try call("connect", make)
        connection.onOpen = { connection in self.note(.open) { self.onOpen(connection) } }
        connection.onData = { connection, bytes in
            self.bytes += copy(bytes)
            self.note(.data(bytes.count)) { self.onData(connection) }
        }
        connection.onEnd = { connection in self.note(.end) { self.onEnd(connection) } }
        connection.onDrain = { connection in self.note(.drain) { self.onDrain(connection) } }
        connection.onTimeout = { connection, kind in
            var action = TimeoutAction.close
            self.note(.timeout(kind)) { action = self.onTimeout(connection, kind) }
            return action
        }
        connection.onClose = { connection, reason in
            self.note(.close(reason)) { self.onClose(connection) }
            self.forgetReactions()
        }
        return connection
    }

    /// They often hold this diary.
    private func forgetReactions() {
        (onOpen, onData, onEnd, onDrain, onClose) = ({ _ in }, { _ in }, { _ in }, { _ in }, { _ in })
        onTimeout = { _, _ in .close }
    }

    /// Goes around a call of the library: no callback may run inside it.
    func call<Answer>(_ name: String, _ body: () throws -> Answer) rethrows -> Answer {
        running.append(name)
        defer { running.removeLast() }
        return try body()
    }

    /// A completion for the next write.
    func completion(_ body: @escaping () -> Void = {}) -> (WriteResult) -> Void {
        let number = writeCount
        writeCount += 1
        return { result in self.note(.completion(number, result), body) }
    }

    private func note(_ event: Event, _ body: () -> Void) {
        if let outer = running.last { faults.append("\(event) inside \(outer)") }
        if pthread_equal(pthread_self(), thread) == 0 { faults.append("\(event) on another thread") }
        if case .data(let more) = event, case .data(let count) = events.last {
            events[events.count - 1] = .data(count + more)
        } else {
            events.append(event)
        }
        call("\(event)", body)
    }

    // MARK: Looking

    var isOpen: Bool { events.contains(.open) }
    var isClosed: Bool { closeReason != nil }

    var closeReason: CloseReason? {
        for case .close(let reason) in events { return reason }
        return nil
    }

    /// The error in the reason, if it is a failure.
    var failure: IOError? {
        if case .failed(let error) = closeReason { error } else { nil }
    }

    var completions: [WriteResult] {
        events.compactMap { if case .completion(_, let result) = $0 { result } else { nil } }
    }

    /// Clauses 1 and 2 of the contract for a client: nothing nested, `onOpen` first and once, `onClose` last and once.
    func expectOrder(sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(faults == [], "contract clause 1", sourceLocation: sourceLocation)
        let opens = events.indices.filter { events[$0] == .open }
        #expect(opens == [] || opens == [0], "onOpen first and once: \(events)", sourceLocation: sourceLocation)
        let closes = events.indices.filter { if case .close = events[$0] { true } else { false } }
        #expect(closes == [events.count - 1], "onClose last and once: \(events)", sourceLocation: sourceLocation)
        var numbers: [Int] = []
        for case .completion(let number, _) in events { numbers.append(number) }
        #expect(numbers == Array(0..<writeCount), "each completion once, in order", sourceLocation: sourceLocation)
        if let end = events.firstIndex(of: .end) {
            let late = events[end...].contains { if case .data = $0 { true } else { false } }
            #expect(!late, "onData after onEnd: \(events)", sourceLocation: sourceLocation)
        }
    }
}

extension EventLoop {
    /// Runs until `condition` holds, looking every 2 ms; a condition that does not come to hold is a failure.
    func run(
        until condition: @escaping () -> Bool, timeLimit: Duration = .seconds(10),
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let end = ContinuousClock.now + timeLimit
        var isLate = false
        let look = schedule(after: .zero, repeating: .milliseconds(2)) { _ in
            isLate = ContinuousClock.now > end
            if isLate || condition() { self.stop() }
        }
        defer { look.cancel() }
        try run()
        if isLate { Issue.record("the time limit of \(timeLimit) has passed", sourceLocation: sourceLocation) }
    }

    /// Runs until `diary` is closed and the peer's code has returned; gives what it gave.
    @discardableResult
    func run<Value: Sendable>(
        _ diary: Diary, _ peer: RunningThread<Value>, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Value {
        try run(until: { diary.isClosed && peer.isFinished }, sourceLocation: sourceLocation)
        return try peer.value(timeLimit: .seconds(1))
    }
}

/// The bytes of a span, to be kept.
func copy(_ bytes: Span<UInt8>) -> [UInt8] {
    bytes.withUnsafeBufferPointer { Array($0) }
}

/// Whether two arrays are the same: `==` would look at megabytes byte by byte in a debug build.
func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && (left.isEmpty || memcmp(left, right, left.count) == 0)
}

/// So that an exit test, which runs in a process of its own, can be handed the engine.
extension Engine: Codable {}

/// Something that one thread tells another, which may wait for it without computing.
final class Flag: Sendable {
    private let value = Atomic(false)
    private let semaphore = DispatchSemaphore(value: 0)

    var isSet: Bool { value.load(ordering: .acquiring) }

    func set() {
        value.store(true, ordering: .releasing)
        semaphore.signal()
    }

    /// Waits for it, for ten seconds at most.
    func wait(sourceLocation: SourceLocation = #_sourceLocation) {
        if semaphore.wait(timeout: .now() + .seconds(10)) != .success {
            Issue.record("the flag was not set within 10 s", sourceLocation: sourceLocation)
        }
        // For whoever waits as well.
        semaphore.signal()
    }
}

/// Waits for a fact that another thread or the kernel brings about: no matter of time.
func waitUntil(_ what: String, _ sourceLocation: SourceLocation = #_sourceLocation, isSo: () -> Bool) {
    let end = ContinuousClock.now + .seconds(10)
    var looks = 0
    while !isSo() {
        looks += 1
        // After a while others need the processor more.
        if looks > 1_000 { poll(nil, 0, 1) }
        guard ContinuousClock.now < end else {
            Issue.record("there was no \(what) within 10 s", sourceLocation: sourceLocation)
            return
        }
        sched_yield()
    }
}

/// An object that only shows whether someone still holds it.
final class Token: Sendable {}
