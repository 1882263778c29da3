import CallbackServer
import ExampleTestSupport
import Foundation
import Glibc
import Testing

/// One of the programs, running, with a port of the kernel's choice.
struct Example {
    let child: ChildProcess
    let port: UInt16

    /// For what would never end: no machine is that slow.
    static let patience = Duration.seconds(120)

    /// Starts the program and waits until it listens.
    init(_ name: String, _ engine: Engine, _ arguments: [String] = []) throws {
        child = try Self.start(name, ["--engine", engine.rawValue, "--port", "0"] + arguments)
        let line = try child.readLine()
        let prefix = "Listening on port "
        port = try #require(line.hasPrefix(prefix) ? UInt16(line.dropFirst(prefix.count)) : nil, "\(line)")
    }

    /// Starts the program with just these arguments.
    static func start(_ name: String, _ arguments: [String]) throws -> ChildProcess {
        try ChildProcess(try ChildProcess.pathOfBuiltProduct(name), arguments)
    }

    func client(receiveBuffer: Int32? = nil) throws -> PlainClient {
        try PlainClient(port: port, receiveBuffer: receiveBuffer, timeLimit: Self.patience)
    }

    /// Ends the server with SIGTERM: it drains and exits with 0.
    func stop() throws {
        child.signal(SIGTERM)
        #expect(try child.waitForExit() == .exited(0))
        #expect(child.standardErrorText == "")
    }
}

/// An installed program that a test talks to a server with; a test that lacks it fails and says what to install.
func tool(_ name: String) throws -> String {
    let packages = [
        "redis-cli": "redis-tools", "redis-benchmark": "redis-tools", "nc": "netcat-openbsd", "wrk": "wrk",
        "curl": "curl", "socat": "socat", "redis-server": "redis-server", "python3": "python3-h11",
        "mosquitto_pub": "mosquitto-clients", "mosquitto_sub": "mosquitto-clients",
    ]
    return try #require(
        installed(name), "\(name) is not installed: apt-get install \(packages[name] ?? name)")
}

/// The path of an installed program.
private func installed(_ name: String) -> String? {
    ["/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/"].map { $0 + name }.first { access($0, X_OK) == 0 }
}

extension Trait where Self == ConditionTrait {
    /// Skips a test that needs a program which few machines have, and says what to install.
    static func needs(_ name: String, from package: String) -> Self {
        .enabled(if: installed(name) != nil, "\(name) is not installed: apt-get install \(package)")
    }
}

/// Runs an installed program with this input, until it ends; gives what it wrote to standard output.
func run(
    _ name: String, _ arguments: [String], input: String = "", status: Int32 = 0, timeLimit: Duration = Example.patience
) throws -> String {
    let child = try ChildProcess(try tool(name), arguments)
    try child.standardInput.send(input)
    try child.standardInput.halfClose()
    let ended = try child.waitForExit(timeLimit: timeLimit)
    #expect(ended == .exited(status), "\(name): \(child.standardErrorText)")
    return child.standardOutputText
}

extension PlainClient {
    /// Throws unless exactly this comes next.
    func expect(_ text: String) throws {
        let bytes = try receive(exactly: text.utf8.count)
        #expect(String(decoding: bytes, as: UTF8.self) == text)
    }

    /// Sends this, and throws unless exactly that comes next.
    func ask(_ question: String, _ answer: String) throws {
        try send(question)
        try expect(answer)
    }
}

/// That bytes go between both ends of a proxy whole, and that each end finishes on its own.
func expectBothWays(_ client: PlainClient, _ server: PlainClient, count: Int) throws {
    let bytes = pseudoRandomBytes(count: count)
    for (sender, receiver) in [(client, server), (server, client)] {
        let sending = onThread {
            try sender.send(bytes)
            try sender.halfClose()
        }
        #expect(try receiver.receiveUntilEnd() == bytes)
        try sending.value()
    }
    client.close()
    server.close()
}

extension PlainClient {
    /// Whether something comes within that time; takes nothing.
    func isAnswered(within time: Duration) -> Bool { isReady(POLLIN, within: time) }

    /// Sends this over and over until the peer takes no more, and gives how many bytes that were; throws beyond `most`.
    ///
    /// A peer that takes none for a fifth of a second has stopped. One that is only slow makes a check weaker, and
    /// fails no test.
    func sendUntilFull(_ bytes: [UInt8], most: Int) throws -> Int {
        var sent = 0
        repeat {
            sent += try sendSome(bytes)
            try #require(sent < most, "the peer takes whatever comes")
        } while isReady(POLLOUT, within: .milliseconds(200))
        return sent
    }

    private func isReady(_ events: Int32, within time: Duration) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return poll(&entry, 1, Int32(time / .milliseconds(1))) > 0
    }
}

/// The most memory that the process has had in RAM so far, in bytes: VmHWM of /proc/PID/status (proc(5)).
func peakResidentBytes(of child: ChildProcess) throws -> Int {
    let status = try String(contentsOfFile: "/proc/\(child.pid)/status", encoding: .utf8)
    let match = try #require(status.firstMatch(of: /VmHWM:\s+(\d+) kB/))
    return try #require(Int(match.output.1)) << 10
}
