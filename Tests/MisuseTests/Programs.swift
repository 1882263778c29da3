import Testing

/// A program that must not compile, and what the compiler has to say about it.
struct Misuse: CustomTestStringConvertible {
    let name: String
    let program: String
    /// Each has to be in the errors and notes.
    let messages: [String]

    var testDescription: String { name }

    /// The bytes of `onData` are lent for the call (contract clause 3).
    static let keepingBytes = [
        Misuse(
            name: "in a variable",
            program: """
                func serve(_ connection: Connection) {
                    var last = Span<UInt8>()
                    connection.onData = { _, bytes in last = bytes }
                    _ = last.count
                }
                """,
            messages: [escapes, dependsOnArgument]),
        Misuse(
            name: "in an array",
            program: """
                func serve(_ connection: Connection) {
                    var all: [Span<UInt8>] = []
                    connection.onData = { _, bytes in all.append(bytes) }
                }
                """,
            messages: ["error: type 'Span<UInt8>' does not conform to protocol 'Escapable'"]),
        Misuse(
            name: "in a property",
            program: """
                final class Session {
                    var last = Span<UInt8>()
                    func follow(_ connection: Connection) {
                        connection.onData = { _, bytes in self.last = bytes }
                    }
                }
                """,
            messages: ["error: the 'get' accessor cannot return a ~Escapable result"]),
        Misuse(
            name: "as a result",
            program: """
                func first(_ connection: Connection, _ bytes: Span<UInt8>) -> Span<UInt8> { bytes }
                """,
            messages: ["error: a function cannot return a ~Escapable result"]),
        Misuse(
            name: "in a task",
            program: """
                func serve(_ connection: Connection) {
                    connection.onData = { connection, bytes in
                        Task { print(bytes.count) }
                    }
                }
                """,
            messages: [escapes, dependsOnArgument]),
        Misuse(
            name: "in work for another thread",
            program: """
                func serve(_ connection: Connection, _ loop: EventLoop) {
                    connection.onData = { connection, bytes in
                        try? loop.offload({ bytes.count }, then: { _ in })
                    }
                }
                """,
            messages: [escapes, dependsOnArgument]),
        Misuse(
            name: "in what a waker runs",
            program: """
                func serve(_ connection: Connection, _ waker: EventLoop.Waker) {
                    connection.onData = { connection, bytes in
                        waker.execute { print(bytes.count) }
                    }
                }
                """,
            messages: [escapes, dependsOnArgument]),
        Misuse(
            name: "in a timer's callback",
            program: """
                func serve(_ connection: Connection, _ loop: EventLoop) {
                    connection.onData = { connection, bytes in
                        loop.schedule(after: .seconds(1)) { _ in connection.write(bytes) }
                    }
                }
                """,
            messages: [escapes, dependsOnArgument]),
        Misuse(
            name: "in a completion",
            program: """
                func serve(_ connection: Connection) {
                    connection.onData = { connection, bytes in
                        connection.write("got it") { _ in print(bytes.count) }
                    }
                }
                """,
            messages: [escapes, dependsOnArgument]),
    ]

    /// Code of no actor has no executor that a plain task could share with it.
    static let plainTask = Misuse(
        name: "a connection in a plain task of code that is no actor's",
        program: """
            func serve(_ connection: Connection) {
                connection.onData = { connection, bytes in
                    Task { connection.write("hello") }
                }
            }
            """,
        messages: [sending])

    /// Only a waker crosses threads (contract clause 17).
    static let crossingThreads =
        [
            ("a connection", "connection", "Connection", "connection.write(\"hello\")"),
            ("a listener", "listener", "Listener", "listener.close()"),
            ("a loop", "loop", "EventLoop", "loop.stop()"),
            ("a timer", "timer", "EventLoop.Timer", "timer.cancel()"),
            ("a signal watcher", "watcher", "EventLoop.SignalWatcher", "watcher.cancel()"),
        ].flatMap { words, name, type, call in
            [
                Misuse(
                    name: "\(words) in a detached task",
                    program: """
                        func serve(_ \(name): \(type)) {
                            Task.detached { \(call) }
                        }
                        """,
                    messages: [sending, "note: closure captures '\(name)' which is accessible to code"]),
                Misuse(
                    name: "\(words) in what a waker runs",
                    program: """
                        func serve(_ \(name): \(type), _ waker: EventLoop.Waker) {
                            waker.execute { \(call) }
                        }
                        """,
                    messages: [notSendable(name, type)]),
                Misuse(
                    name: "\(words) in work for another thread",
                    program: """
                        func serve(_ \(name): \(type), _ owner: EventLoop) throws {
                            try owner.offload({ () -> Int in \(call); return 1 }, then: { _ in })
                        }
                        """,
                    messages: [notSendable(name, type)]),
            ]
        }

    /// What is not `Sendable`, or changes, may not be shared with a waker's closure.
    static let sharing = [
        Misuse(
            name: "an object",
            program: """
                final class Counter { var value = 0 }
                func count(_ counter: Counter, _ waker: EventLoop.Waker) {
                    waker.execute { counter.value += 1 }
                }
                """,
            messages: [notSendable("counter", "Counter")]),
        Misuse(
            name: "a variable",
            program: """
                func count(_ waker: EventLoop.Waker) {
                    var count = 0
                    waker.execute { count += 1 }
                }
                """,
            messages: ["error: mutation of captured var 'count' in concurrently-executing code"]),
    ]

    /// That the compiler really is asked for strict memory safety.
    static let unsafe = Misuse(
        name: "unsafe code",
        program: """
            func serve(_ connection: Connection) {
                connection.onData = { _, bytes in bytes.withUnsafeBufferPointer { print($0.count) } }
            }
            """,
        messages: ["error: expression uses unsafe constructs but is not marked with 'unsafe'"])

    private static let escapes = "error: lifetime-dependent variable 'bytes' escapes its scope"
    private static let dependsOnArgument = "note: it depends on the lifetime of argument 'bytes'"
    private static let sending =
        "error: passing closure as a 'sending' parameter risks causing data races between code in the current task"

    private static func notSendable(_ name: String, _ type: String) -> String {
        "error: capture of '\(name)' with non-Sendable type '\(type)' in a '@Sendable' closure"
    }
}
