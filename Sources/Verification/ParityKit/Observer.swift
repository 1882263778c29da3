package import CallbackModel
internal import Glibc

/// Watches over what holds in every run: one thread, no callback inside another, and what else was seen to be wrong.
package final class Overseer {
    private let thread = pthread_self()
    private var running: String?
    package private(set) var violations: [String] = []

    package init() {}

    /// So many are kept: one fault often shows again with each byte.
    private static let mostViolations = 20

    package func report(_ violation: String) {
        if violations.count < Self.mostViolations, !violations.contains(violation) { violations.append(violation) }
    }

    /// Goes around a call of the user's, in which no callback may run.
    package func call<Answer>(_ name: @autoclosure () -> String, _ body: () -> Answer) -> Answer {
        let outer = running
        running = name()
        defer { running = outer }
        return body()
    }

    /// Goes around `run`, the one call in which callbacks run.
    package func run(_ body: () -> Void) {
        let outer = running
        running = nil
        body()
        running = outer
    }

    /// Goes around a callback.
    package func callback<Answer>(_ name: @autoclosure () -> String, _ body: () -> Answer) -> Answer {
        if let running { report("clause 1: \(name()) ran inside \(running)") }
        if pthread_equal(pthread_self(), thread) == 0 { report("clause 1: \(name()) ran on another thread") }
        let outer = running
        running = name()
        defer { running = outer }
        return body()
    }
}

/// Wraps a connection's callbacks and writes down what they are told; or is told itself, by a task.
package final class ConnectionObserver {
    package let number: Int
    private(set) var seen: Observed
    private let overseer: Overseer
    private let board: Board
    /// Whether a script has paused it: then no data may come.
    var isPaused = false
    /// Whether a script has finished it: what comes then is read and dropped.
    var isFinished = false
    /// How a script cuts what it receives.
    var framing: Script.Framing?
    /// Whether what is read may be more than what is told, since a task stops asking.
    package var mayLeaveBytes = false
    /// Whether another connection gets what it receives.
    var isPiped = false
    private var socket: UInt64?
    private let beginsTasks: Bool
    private var (tasksBegun, tasksEnded) = (0, 0)

    init(
        _ number: Int, _ overseer: Overseer, _ board: Board, expecting reference: [UInt8]?, beginsTasks: Bool = false
    ) {
        self.beginsTasks = beginsTasks
        self.number = number
        self.overseer = overseer
        self.board = board
        seen = Observed(digest: StreamDigest(prefixOf: reference))
    }

    private func name(_ callback: String) -> String { "\(callback) of connection \(number)" }

    package func report(_ violation: String) {
        overseer.report("\(violation), connection \(number)")
    }

    /// Runs `body` as the callback with this name, then tells how far the connection has come.
    package func callback<Answer>(_ name: String, _ body: () -> Answer) -> Answer {
        let answer = overseer.callback(self.name(name), body)
        tell()
        return answer
    }

    /// Tells the peers how far the connection has come.
    package func tell() {
        let seen = seen
        board.update(number) { progress in
            progress.isOpened = seen.isOpened
            progress.received = seen.digest.count
            progress.isEnded = seen.isEnded
            progress.isDrained = seen.drains > 0
            progress.timeouts = seen.timeouts.count
            progress.isClosed = seen.closing != nil
        }
    }

    package func opened(_ connection: Connection) {
        seen.isOpened = true
        met(connection)
    }

    /// It is there, and may open later.
    func met(_ connection: Connection) {
        socket = identity(of: connection.descriptor)
    }

    func completed(_ result: WriteResult) {
        if seen.closing != nil { report("clause 2: a completion came after onClose") }
        if result == .sent { seen.completions += 1 } else { seen.failures += 1 }
    }

    /// Goes around the callbacks that the handler has set.
    func wrap(_ connection: Connection) {
        let (onOpen, onData, onEnd) = (connection.onOpen, connection.onData, connection.onEnd)
        let (onDrain, onTimeout, onClose) = (connection.onDrain, connection.onTimeout, connection.onClose)
        connection.onOpen = { connection in
            self.opened(connection)
            self.beginTask(of: connection)
            self.callback("onOpen") { onOpen?(connection) }
        }
        connection.onData = { connection, bytes in
            self.received(bytes)
            self.beginTask(of: connection)
            self.callback("onData") { onData?(connection, bytes) }
        }
        framing?.cut(connection)
        connection.onEnd = { connection in
            self.ended()
            self.beginTask(of: connection)
            self.callback("onEnd") { onEnd?(connection) }
        }
        connection.onDrain = { connection in
            self.checkOpen("onDrain")
            self.seen.drains += 1
            if connection.bufferedByteCount > connection.options.lowWaterMark {
                self.report("clause 6: onDrain ran with more than the low water mark queued")
            }
            self.beginTask(of: connection)
            self.callback("onDrain") { onDrain?(connection) }
        }
        connection.onTimeout = { connection, kind in
            self.checkOpen("onTimeout")
            self.seen.timeouts.append(kind)
            self.beginTask(of: connection)
            return self.callback("onTimeout") { onTimeout?(connection, kind) ?? .close }
        }
        connection.onClose = { connection, reason in
            self.closed(connection, reason)
            self.callback("onClose") { onClose?(connection, reason) }
        }
    }

    /// A task that waits once: on the loop's thread each time, and inside no callback.
    private func beginTask(of connection: Connection) {
        guard beginsTasks else { return }
        tasksBegun += 1
        connection.task { [self] in
            overseer.callback(name("a task")) {}
            await Task.yield()
            overseer.callback(name("a task that has waited")) {}
            tasksEnded += 1
        }
    }

    /// After the loop was let go.
    func checkTasks() {
        if tasksEnded != tasksBegun { report("clause 17: \(tasksBegun) tasks were begun, \(tasksEnded) have ended") }
    }

    private func checkOpen(_ callback: String) {
        if seen.closing != nil { report("clause 2: \(callback) came after onClose") }
    }

    package func received(_ bytes: Span<UInt8>) {
        checkOpen("onData")
        if bytes.isEmpty { report("clause 3: onData got no bytes") }
        if seen.isEnded { report("clause 2: onData came after onEnd") }
        if isPaused { report("clause 3: onData came after pause()") }
        if isFinished { report("clause 3: onData came after finish(within:)") }
        unsafe bytes.withUnsafeBytes { unsafe seen.digest.append($0) }
    }

    package func ended() {
        if seen.isEnded { report("clause 4: onEnd ran twice") }
        checkOpen("onEnd")
        seen.isEnded = true
    }

    /// A connection that was begun has not opened.
    package func failed(_ error: IOError) {
        seen.closing = .failed(error)
    }

    package func closed(_ connection: Connection, _ reason: CloseReason) {
        if seen.closing != nil { report("clause 2: onClose ran twice") }
        seen.closing = reason
        // What is behind the last whole frame is read, and never told.
        let isTold =
            framing == nil && !mayLeaveBytes
            ? connection.bytesRead == seen.digest.count : connection.bytesRead >= seen.digest.count
        if !isTold, !isFinished {
            report("bytesRead is \(connection.bytesRead), onData got \(seen.digest.count)")
        }
        if connection.descriptor != -1 { report("clause 10: onClose ran with an open descriptor") }
        checkDescriptor("when onClose ran")
    }

    private var lastDescriptor: Int32 = -1

    /// Whether the socket still is where it was: its descriptor leaks, or closes late.
    func checkDescriptor(_ time: String) {
        guard let socket, lastDescriptor >= 0 else { return }
        if identity(lastDescriptor) == socket { report("clause 10: the descriptor was open \(time)") }
    }

    private func identity(of descriptor: Int32) -> UInt64? {
        lastDescriptor = descriptor
        return identity(descriptor)
    }

    /// A socket has a number that no other has while it exists (fstat(2), st_ino).
    private func identity(_ descriptor: Int32) -> UInt64? {
        var status = stat()
        guard descriptor >= 0, unsafe fstat(descriptor, &status) == 0 else { return nil }
        return UInt64(status.st_ino)
    }
}
