import Glibc
import Synchronization

/// A program that a test runs, with pipes on its standard streams.
///
/// Two threads serve it: one takes its output as it comes, so that the child never waits for the test to
/// read, and one waits for its exit. A child that still runs is killed with this object.
public final class ChildProcess: Sendable {
    /// How a process ended.
    public enum ExitStatus: Hashable, Sendable {
        /// It returned from `main` or called `exit`, with this status.
        case exited(Int32)
        /// A signal ended it.
        case signalled(Int32)
    }

    /// Where a child writes.
    public enum Stream: Int, CaseIterable, Sendable {
        /// Descriptor 1.
        case standardOutput
        /// Descriptor 2.
        case standardError
    }

    /// The child's process id.
    public let pid: pid_t

    /// The child's standard input, to be written and closed. The child reads a Unix socket, not a pipe, so
    /// that writing to a child that has gone is an error and not SIGPIPE.
    public let standardInput: PlainClient

    private let executable: String
    private let state: Monitor<State>

    /// What the two threads tell the others.
    struct State: Sendable {
        var status: ExitStatus?
        var outputs = Stream.allCases.map { _ in Output() }
        var isSilent: Bool { outputs.allSatisfy(\.isOver) }
    }

    /// What a child wrote to one stream.
    struct Output: Sendable {
        var bytes: [UInt8] = []
        /// Where the next line begins.
        var lineStart = 0
        var isOver = false
    }

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - executable: its path; PATH is not searched.
    ///   - arguments: without the program's name.
    ///   - environment: what is added to this process's environment.
    ///   - descriptorLimit: RLIMIT_NOFILE of the child, soft and hard.
    public init(
        _ executable: String, _ arguments: [String] = [], environment: [String: String] = [:],
        descriptorLimit: Int? = nil
    ) throws {
        var command = [executable] + arguments
        if let descriptorLimit {
            // `exec` keeps the process id, so that signals reach the program and not the shell.
            command = ["/bin/sh", "-c", "ulimit -n \(descriptorLimit) && exec \"$@\"", "sh"] + command
        }
        let spawned = try spawn(command, environment: environment)
        self.executable = executable
        pid = spawned.pid
        standardInput = PlainClient(adopting: spawned.standardInput)
        let state = Monitor(State())
        self.state = state
        startDetachedThread { collect(from: spawned.outputs, into: state) }
        startDetachedThread { [pid] in awaitExit(of: pid, into: state) }
    }

    deinit {
        standardInput.close()
        signal(SIGKILL)
        // So that its descriptors are back when a test counts them.
        _ = try? waitForExit(timeLimit: .seconds(2))
    }

    /// Sends a signal; does nothing if the child has ended, since its id may be another's by then.
    public func signal(_ number: Int32) {
        state.withLock { state in
            if state.status == nil { kill(pid, number) }
        }
    }

    /// Whether the child has not ended yet.
    public var isRunning: Bool { state.withLock { $0.status == nil } }

    /// Waits until the child has ended and its output, which a child of its own may hold open, has too.
    @discardableResult
    public func waitForExit(timeLimit: Duration = standardTimeLimit) throws -> ExitStatus {
        let deadline = Deadline(in: timeLimit)
        let status = state.wait(until: deadline) { $0.isSilent ? $0.status : nil }
        if let status { return status }
        let waitedFor = isRunning ? "\(executable) to end" : "the end of the output of \(executable)"
        throw deadline.error("waitForExit", waitedFor: waitedFor + transcript)
    }

    /// All that the child has written to standard output so far.
    public var standardOutputText: String { text(of: .standardOutput) }

    /// All that the child has written to standard error so far.
    public var standardErrorText: String { text(of: .standardError) }

    private func text(of stream: Stream) -> String {
        String(decoding: state.withLock { $0.outputs[stream.rawValue].bytes }, as: UTF8.self)
    }

    /// Waits for the next line and gives it without its line feed; throws at the end of the output.
    public func readLine(
        from stream: Stream = .standardOutput, timeLimit: Duration = standardTimeLimit
    ) throws -> String {
        try nextLine(from: stream, until: Deadline(in: timeLimit), "a line")
    }

    /// Waits for a line that holds `text`, passing over the lines before it.
    @discardableResult
    public func waitForLine(
        containing text: String, from stream: Stream = .standardOutput, timeLimit: Duration = standardTimeLimit
    ) throws -> String {
        let deadline = Deadline(in: timeLimit)
        while true {
            let line = try nextLine(from: stream, until: deadline, "a line with \"\(text)\"")
            if line.contains(text) { return line }
        }
    }

    private func nextLine(from stream: Stream, until deadline: Deadline, _ waitedFor: String) throws -> String {
        let line: Line? = state.wait(until: deadline) { $0.outputs[stream.rawValue].takeLine() }
        switch line {
        case .line(let bytes): return String(decoding: bytes, as: UTF8.self)
        case .over:
            throw PeerError(
                call: "readLine", cause: .unexpected("\(stream) of \(executable) ended"),
                waitedFor: waitedFor + transcript)
        case nil: throw deadline.error("readLine", waitedFor: "\(waitedFor) of \(executable)" + transcript)
        }
    }

    /// What a person needs who reads the failure of a test on another machine.
    private var transcript: String {
        Stream.allCases.map { stream in "; \(stream): \"\(text(of: stream).suffix(2_000))\"" }.joined()
    }
}

/// What `takeLine` found.
enum Line {
    case line([UInt8])
    case over
}

extension ChildProcess.Output {
    /// The next whole line, or what is left at the end; `nil` while there is neither.
    mutating func takeLine() -> Line? {
        let start = lineStart
        let length = bytes.withUnsafeBytes { bytes -> Int? in
            guard start < bytes.count else { return nil }
            let base = bytes.baseAddress! + start
            return memchr(base, 10, bytes.count - start).map { base.distance(to: UnsafeRawPointer($0)) }
        }
        if let length {
            lineStart += length + 1
            return .line(Array(bytes[start..<start + length]))
        }
        guard isOver else { return nil }
        guard start < bytes.count else { return .over }
        lineStart = bytes.count
        return .line(Array(bytes[start...]))
    }
}

/// Reads both streams until both are over, whichever has something.
private func collect(from descriptors: [Int32], into state: Monitor<ChildProcess.State>) {
    var entries = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    var piece = [UInt8](repeating: 0, count: 65_536)
    while entries.contains(where: { $0.fd >= 0 }) {
        if poll(&entries, nfds_t(entries.count), -1) < 0 { continue }
        for index in entries.indices where entries[index].fd >= 0 && entries[index].revents != 0 {
            let count = read(entries[index].fd, &piece, piece.count)
            if count > 0 {
                state.withLock { $0.outputs[index].bytes += piece[..<count] }
            } else if count == 0 || errno != EINTR {
                close(entries[index].fd)
                // poll(2) passes over a negative descriptor.
                entries[index].fd = -1
                state.withLock { $0.outputs[index].isOver = true }
            }
        }
    }
}

/// Waits for the exit of a child, and reaps it where `signal` cannot be between looking and sending.
private func awaitExit(of pid: pid_t, into state: Monitor<ChildProcess.State>) {
    var information = siginfo_t()
    // WNOWAIT leaves the child a zombie: until it is reaped its id cannot be another's.
    while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) < 0, errno == EINTR {}
    state.withLock { state in
        var status: Int32 = 0
        var reaped = waitpid(pid, &status, 0)
        while reaped < 0, errno == EINTR { reaped = waitpid(pid, &status, 0) }
        // The kernel reaps the children of a process that ignores SIGCHLD, and their status is lost.
        precondition(reaped == pid, "waitpid \(pid): \(errnoName(errno)); does a test ignore SIGCHLD?")
        // The macros of wait(2) are not Swift's to call: WTERMSIG is the low seven bits, WEXITSTATUS the next byte.
        let signal = status & 0x7f
        state.status = signal == 0 ? .exited((status >> 8) & 0xff) : .signalled(signal)
    }
}
