import CallbackServer
import Glibc
import TestSupport
import Testing

/// Sees whether a callback runs inside another one, inside a call of the library, or on a strange thread.
final class Overseer {
    private let thread = pthread_self()
    /// The callbacks and calls that are on the stack, outermost first.
    private var running: [String] = []
    /// What clause 1 of the contract forbids, as it was seen.
    private(set) var faults: [String] = []
    /// How often each callback ran.
    private(set) var counts: [String: Int] = [:]

    /// Goes around the body of a callback.
    func callback<Answer>(_ name: String, _ body: () -> Answer) -> Answer {
        if let outer = running.last { faults.append("\(name) ran inside \(outer)") }
        if pthread_equal(pthread_self(), thread) == 0 { faults.append("\(name) ran on another thread") }
        counts[name, default: 0] += 1
        running.append(name)
        defer { running.removeLast() }
        return body()
    }

    /// Goes around a call of the library.
    func call<Answer>(_ name: String, _ body: () throws -> Answer) rethrows -> Answer {
        running.append(name)
        defer { running.removeLast() }
        return try body()
    }
}

/// What one connection told, in order.
final class Diary {
    enum Event: Equatable {
        case open
        /// As many bytes; neighbours are joined, since where a stream is cut means nothing.
        case data(Int)
        case end
        case drain
        case timeout(TimeoutKind)
        /// The completion of the write with this number.
        case completion(Int, WriteResult)
        case close(CloseReason)
    }

    let overseer: Overseer
    private(set) var events: [Event] = []
    /// What `onData` got, all of it.
    private(set) var bytes: [UInt8] = []
    private var nextWrite = 0
    /// Whether it has followed the connection from its making, which has an order of its own.
    private var isFromTheStart = false
    /// What a test does in the callbacks; forgotten after `onClose`, since they often hold this diary.
    var reactions = Reactions()

    init(_ overseer: Overseer = Overseer()) { self.overseer = overseer }

    /// What a test does in the callbacks, beside writing them down.
    struct Reactions {
        var open: (Connection) -> Void = { _ in }
        var data: (Connection, Span<UInt8>) -> Void = { _, _ in }
        var end: (Connection) -> Void = { _ in }
        var drain: (Connection) -> Void = { _ in }
        var timeout: (Connection, TimeoutKind) -> TimeoutAction = { _, _ in .close }
        var close: (Connection, CloseReason) -> Void = { _, _ in }
    }

    /// Makes a connection of this side and sets every callback of it.
    @discardableResult
    func follow(_ make: () throws -> Connection) rethrows -> Connection {
        let connection = try overseer.call("connect", make)
        isFromTheStart = true
        connection.onOpen = { connection in
            self.note(.open)
            self.overseer.callback("onOpen") { self.reactions.open(connection) }
        }
        follow(connection, reactions)
        return connection
    }

    /// Sets every callback of `connection`, but for `onOpen`.
    func follow(_ connection: Connection, _ reactions: Reactions = Reactions()) {
        self.reactions = reactions
        connection.onData = { connection, bytes in
            self.noteData([UInt8](copying: bytes))
            self.overseer.callback("onData") { self.reactions.data(connection, bytes) }
        }
        connection.onEnd = { connection in
            self.note(.end)
            self.overseer.callback("onEnd") { self.reactions.end(connection) }
        }
        connection.onDrain = { connection in
            self.note(.drain)
            self.overseer.callback("onDrain") { self.reactions.drain(connection) }
        }
        connection.onTimeout = { connection, kind in
            self.note(.timeout(kind))
            return self.overseer.callback("onTimeout") { self.reactions.timeout(connection, kind) }
        }
        connection.onClose = { connection, reason in
            self.note(.close(reason))
            self.overseer.callback("onClose") { self.reactions.close(connection, reason) }
            self.reactions = Reactions()
        }
    }

    /// A completion for the next write; it is written down with that write's number, from 0.
    func completion(_ body: @escaping () -> Void = {}) -> (WriteResult) -> Void {
        let number = nextWrite
        nextWrite += 1
        return { result in
            self.note(.completion(number, result))
            self.overseer.callback("completion", body)
        }
    }

    private func noteData(_ piece: [UInt8]) {
        bytes += piece
        if case .data(let count) = events.last {
            events[events.count - 1] = .data(count + piece.count)
        } else {
            events.append(.data(piece.count))
        }
    }

    private func note(_ event: Event) { events.append(event) }

    // MARK: Looking

    var isOpen: Bool { events.contains(.open) }

    var isClosed: Bool { events.contains { if case .close = $0 { true } else { false } } }

    var closeReasons: [CloseReason] {
        events.compactMap { if case .close(let reason) = $0 { reason } else { nil } }
    }

    var closeReason: CloseReason? { closeReasons.first }

    /// The error in the reason, if it is a failure.
    var failure: IOError? {
        if case .failed(let error) = closeReason { error } else { nil }
    }

    var results: [WriteResult] { completions.map(\.result) }

    var completions: [(number: Int, result: WriteResult)] {
        events.compactMap { if case .completion(let number, let result) = $0 { (number, result) } else { nil } }
    }

    func count(of event: Event) -> Int { events.count { $0 == event } }

    /// Clauses 1 and 2 of the contract: nothing nested, everything in order, one end, `onClose` once and last. Of a
    /// connection of this side also: `onOpen` first and at most once, each completion once.
    func expectOrder(sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(overseer.faults == [], "contract clause 1", sourceLocation: sourceLocation)
        #expect(closeReasons.count == 1, "contract clause 2: \(events.suffix(20))", sourceLocation: sourceLocation)
        guard case .close = events.last else {
            Issue.record("contract clause 2: after onClose came \(events.suffix(5))", sourceLocation: sourceLocation)
            return
        }
        #expect(count(of: .end) <= 1, "contract clause 4", sourceLocation: sourceLocation)
        if let end = events.firstIndex(of: .end) {
            let late = events[end...].contains { if case .data = $0 { true } else { false } }
            #expect(!late, "contract clause 2: onData after onEnd", sourceLocation: sourceLocation)
        }
        let numbers = completions.map(\.number)
        #expect(numbers == numbers.sorted(), "completions out of order", sourceLocation: sourceLocation)
        #expect(Set(numbers).count == numbers.count, "a completion ran twice", sourceLocation: sourceLocation)
        guard isFromTheStart else { return }
        #expect(numbers == Array(0..<nextWrite), "each completion once, in order", sourceLocation: sourceLocation)
        let opens = events.indices.filter { events[$0] == .open }
        #expect(opens == [] || opens == [0], "onOpen first and once: \(events)", sourceLocation: sourceLocation)
    }
}

extension Listener.Options {
    /// The defaults, but for what `change` sets of each connection.
    static func connections(_ change: (inout Connection.Options) -> Void) -> Listener.Options {
        var options = Listener.Options()
        change(&options.connection)
        return options
    }
}

extension EventLoop.Signal {
    /// A signal whose default action is to be ignored, so that other tests do not feel it (signal(7)): SIGWINCH or
    /// SIGURG. libuv's handler and the reference engines' are the process's, and one would replace the other.
    static func harmless(to engine: Engine) -> Self {
        Self(rawValue: engine == .libuv ? 28 : 23)
    }
}

/// An object that only shows whether someone still holds it.
final class Token: Sendable {}
