import CallbackServer
import Glibc
import TestSupport
import Testing

/// One object of a new loop, brought into a state, and what is told about it afterwards.
///
/// A table has a cell for each state and each call; a cell is played in a loop of its own on the test's own thread,
/// step by step, so that it is the same each time. What it says must be the same on every engine.
final class Cell {
    let engine: Engine
    /// `nil` once it was let go of.
    private(set) var loop: EventLoop?
    private var notes: [String] = []
    private var mayNote = false
    private var peers: [PlainClient] = []
    /// What the call did or returned; `nil` until it was made.
    private var outcome: String?
    /// What is still to be told, which takes a while: by a thread, or by the clock.
    var awaited: String?
    /// So that nothing goes away before the cell is over.
    private var kept: [Any] = []

    init(_ engine: Engine) throws {
        self.engine = engine
        loop = try EventLoop(engine: engine)
    }

    var theLoop: EventLoop {
        get throws { try #require(loop) }
    }

    /// Keeps an object until the cell is over.
    func keep<Value>(_ value: Value) -> Value {
        kept.append(value)
        return value
    }

    func peer(_ peer: PlainClient) -> PlainClient {
        peers.append(peer)
        return peer
    }

    /// Writes down what follows the call.
    func note(_ event: String) { if mayNote { notes.append(event) } }

    /// Whether the call was made.
    var isMade: Bool { outcome != nil }

    /// Makes the call of this cell: once, outside of `run` or in a callback.
    func act(_ call: () throws -> String) {
        guard outcome == nil else { return }
        mayNote = true
        do {
            outcome = try call()
        } catch {
            outcome = "throws \((error as? IOError).map { "\($0.call) \($0.name)" } ?? "\(error)")"
        }
        notes.append(aliveness)
    }

    private var aliveness: String { loop.map { $0.isAlive ? "alive" : "idle" } ?? "gone" }

    /// A few turns that wait for nothing: whatever could be delivered has been.
    func settle(turns: Int = 12) throws {
        for _ in 0..<turns { try loop?.run(.noWait) }
    }

    /// Turns until something is so, for two seconds at most.
    func turn(until isSo: () -> Bool) throws {
        let end = ContinuousClock.now + .seconds(2)
        while !isSo() {
            guard ContinuousClock.now < end else {
                throw PeerError(call: "run", cause: .errno(ETIME), waitedFor: "a state")
            }
            try loop?.run(.noWait)
        }
    }

    func dropLoop() { loop = nil }

    /// What the cell says, once all that follows the call has been delivered.
    func finish() throws -> String {
        try settle()
        if let awaited { try turn { self.notes.contains { $0.hasPrefix(awaited) } } }
        try settle()
        mayNote = false
        notes.append(aliveness)
        let seen = peers.map { "peer: " + Self.look($0) }
        let text = ([outcome ?? "was never called", "then"] + notes + seen).joined(separator: " ")
        return text
    }

    /// Lets go of everything; what was kept may hold this object.
    func end() {
        loop = nil
        kept = []
    }

    /// What a peer finds in its socket.
    private static func look(_ peer: PlainClient) -> String {
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = recv(peer.descriptor, &part, part.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                bytes += part[0..<count]
                continue
            }
            let ending = count == 0 ? "end" : errno == EAGAIN ? "open" : errno == ECONNRESET ? "reset" : "\(errno)"
            return (bytes.count < 20 ? String(decoding: bytes, as: UTF8.self) : "many") + "," + ending
        }
    }
}

/// How an object of a kind gets into a state. It calls `act` there with the object.
struct CallState<Subject> {
    let name: String
    let enter: (Cell, @escaping (Subject) -> Void) throws -> Void

    init(_ name: String, _ enter: @escaping (Cell, @escaping (Subject) -> Void) throws -> Void) {
        (self.name, self.enter) = (name, enter)
    }
}

/// A call or a property, and what it says of its outcome.
struct PublicCall<Subject> {
    let name: String
    let make: (Cell, Subject) throws -> String

    init(_ name: String, _ make: @escaping (Cell, Subject) throws -> String) {
        (self.name, self.make) = (name, make)
    }

    /// One that returns nothing.
    static func void(_ name: String, _ make: @escaping (Subject) throws -> Void) -> Self {
        Self(name) { _, subject in
            try make(subject)
            return "returns"
        }
    }

    /// What is equal on every engine as it is printed.
    static func value<Value>(_ name: String, _ value: @escaping (Subject) -> Value) -> Self {
        Self(name) { _, subject in "\(value(subject))" }
    }
}

/// All cells of a kind of object on one engine, by state and call, or the one that is named.
func cells<Subject>(
    _ engine: Engine, _ states: [CallState<Subject>], _ calls: [PublicCall<Subject>], only: String? = nil
) throws -> [String: String] {
    var table: [String: String] = [:]
    for state in states {
        for call in calls {
            let name = "\(state.name): \(call.name)"
            if let only, only != name { continue }
            let cell = try Cell(engine)
            defer { cell.end() }
            do {
                try state.enter(cell) { subject in cell.act { try call.make(cell, subject) } }
                table[name] = try cell.finish()
            } catch {
                table[name] = "cannot be played: \(error)"
            }
        }
    }
    return table
}

/// Numbers that depend on how much a kernel takes, told apart only as far as they have to be equal.
func roughly(_ count: some BinaryInteger) -> String { count < 1_000 ? "\(count)" : "many" }

/// An address without the port that the kernel chose.
func kind(of address: SocketAddress?) -> String {
    guard let address else { return "nil" }
    return address.port.map { address.host + ($0 == 0 ? ", no port" : "") } ?? "\(address)"
}

/// A reason without the port that the kernel chose.
func brief(_ reason: CloseReason) -> String {
    if case .failed(let error) = reason { "failed \(error.call) \(error.name)" } else { "\(reason)" }
}

func brief(_ result: WriteResult) -> String {
    if case .failed(let reason) = result { "failed: \(brief(reason))" } else { "\(result)" }
}
