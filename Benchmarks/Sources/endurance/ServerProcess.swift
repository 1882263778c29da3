import Foundation

/// The server as a child process, its port, its counts, and what /proc tells of it.
final class ServerProcess {
    let port: UInt16
    /// Where it gives each client the bytes of `--feed`.
    let feedPort: UInt16?
    private let process: Process
    private let control: Client

    /// A server that has told its last counts has nothing left to do.
    private static let exitLimit: Duration = .seconds(5)

    /// Starts `endurance serve` with these arguments.
    init(_ arguments: [String]) throws {
        var ends: [Int32] = [-1, -1]
        try check("socketpair", socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends))
        control = Client(descriptor: ends[0])
        process = Process()
        process.executableURL = URL(filePath: "/proc/self/exe")
        process.arguments = ["serve"] + arguments
        process.standardInput = FileHandle(fileDescriptor: ends[1], closeOnDealloc: true)
        try process.run()
        let ports = try control.receiveLine().split(separator: " ").compactMap { UInt16($0) }
        guard let port = ports.first else { throw ClientError(call: "the server's port", errno: EPROTO) }
        self.port = port
        feedPort = ports.dropFirst().first
    }

    /// What the server has counted so far.
    func counts() throws -> ServerCounts {
        try control.send([1])
        return try JSONDecoder().decode(ServerCounts.self, from: Data(try control.receiveLine().utf8))
    }

    /// Waits until no connection is open, or `limit` has passed; what is counted then.
    func countsAtRest(within limit: Duration = .seconds(10)) throws -> ServerCounts {
        let deadline = ContinuousClock.now + limit
        while true {
            let counts = try counts()
            if counts.open == 0 || ContinuousClock.now > deadline { return counts }
            pause(.milliseconds(5))
        }
    }

    func terminate() { process.terminate() }

    /// After `terminate`: the last counts and the exit status; a signal that ended it is a status of 128 and more.
    func finish() throws -> (counts: ServerCounts?, status: Int32) {
        let line = try? control.receiveLine()
        control.close()
        let deadline = ContinuousClock.now + Self.exitLimit
        while process.isRunning, ContinuousClock.now < deadline { pause(.milliseconds(1)) }
        kill()
        process.waitUntilExit()
        let isSignal = process.terminationReason == .uncaughtSignal
        let counts = try line.map { try JSONDecoder().decode(ServerCounts.self, from: Data($0.utf8)) }
        return (counts, process.terminationStatus + (isSignal ? 128 : 0))
    }

    /// Ends it in whatever state it is.
    func kill() {
        control.close()
        if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) }
    }

    // MARK: What the kernel tells (proc(5))

    func descriptorCount() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process.processIdentifier)/fd").count
    }

    /// Bytes in RAM: counted page by page, since the quick figure of statm is off by what each processor has not
    /// handed in yet.
    func residentBytes() throws -> Int {
        let text = try read("smaps_rollup")
        for line in text.split(separator: "\n") where line.hasPrefix("Rss:") {
            let fields = line.split(separator: " ")
            if fields.count > 1, let kibibytes = Int(fields[1]) { return kibibytes << 10 }
        }
        throw ClientError(call: "smaps_rollup", errno: EPROTO)
    }

    /// The time that it has run, user and system, in steps of 10 ms.
    func cpuTime() throws -> Duration {
        let text = try read("stat")
        // The second field is the name, in parentheses.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        guard fields.count > 13, let user = Int(fields[12]), let system = Int(fields[13]) else {
            throw ClientError(call: "stat", errno: EPROTO)
        }
        return .seconds(user + system) / sysconf(Int32(_SC_CLK_TCK))
    }

    private func read(_ name: String) throws -> String {
        try String(contentsOfFile: "/proc/\(process.processIdentifier)/\(name)", encoding: .utf8)
    }
}
