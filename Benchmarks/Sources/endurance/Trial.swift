import CallbackServer
import Foundation

/// One run on one engine while it happens: its server, what was lost, and what was not as promised.
final class Trial {
    let engine: Engine
    let isSmall: Bool
    let seed: UInt64
    let soakTime: Duration
    /// Such as "1,000,000 connections".
    var load = ""
    /// Memory growth in bytes that the row tells; without it, that from before the load to after it.
    var growth: Int?

    private let run: String
    private let fault: Fault?
    private let terminal: Terminal
    private var running: ServerProcess?
    private var lost = 0
    private var figures: [String] = []
    private var failures: [String] = []
    private var descriptorsBefore = 0
    private var descriptorsAfter: Int?
    private var residentBefore = 0
    private var cpuTime = Duration.zero

    /// So many failures are told in words; all that is lost is counted.
    private static let mostFailures = 5
    /// A run that has lost so much is over.
    private static let mostLost = 10

    init(_ run: String, _ engine: Engine, _ options: Options, _ terminal: Terminal) {
        self.run = run
        self.engine = engine
        self.terminal = terminal
        isSmall = options.isSmall
        seed = options.seed
        soakTime = options.soakTime
        fault = options.fault
    }

    /// What the command line says, the same for all runs.
    struct Options {
        let isSmall: Bool
        let seed: UInt64
        let soakTime: Duration
        let fault: Fault?
    }

    /// `full` at full size; select(2) has room for 900 connections at once.
    func size(_ full: Int, small: Int, select: Int? = nil) -> Int {
        let size = isSmall ? small : full
        guard engine == .select, let select else { return size }
        return min(size, select)
    }

    func random(_ stream: UInt64) -> SplitMix { SplitMix(seed: seed &* 1_000_003 &+ stream) }

    // MARK: The server

    /// Started at the first use, and warm: what a first connection costs once is there.
    func server(_ arguments: [String] = []) throws -> ServerProcess {
        let fault = fault.map { ["--break", $0.rawValue] } ?? []
        let server = try startServer(arguments + fault)
        running = server
        descriptorsBefore = try server.descriptorCount()
        residentBefore = try server.residentBytes()
        return server
    }

    /// A server without load or fault, for comparison; the caller ends it.
    func idleServer() throws -> ServerProcess { try startServer([]) }

    private func startServer(_ arguments: [String]) throws -> ServerProcess {
        let server = try ServerProcess(["--engine", engine.rawValue] + arguments)
        for number in 0..<Self.warmUps { try Client.visit(server.port, Pattern(seed: UInt64(number))) }
        _ = try server.countsAtRest()
        return server
    }

    /// Connections that each server has had before the load.
    static let warmUps = 10

    // MARK: What is found

    func expect(_ isSo: Bool, _ otherwise: @autoclosure () -> String) {
        if !isSo, failures.count < Self.mostFailures { failures.append(otherwise()) }
    }

    /// Something was lost. Throws when it is enough.
    func lose(_ what: @autoclosure () -> String) throws {
        lost += 1
        expect(false, what())
        if lost >= Self.mostLost { throw ClientError(call: "so much is lost that the run", errno: ECANCELED) }
    }

    func lose(count: Int, _ what: String) {
        lost += count
        expect(count == 0, "\(what): \(count) lost")
    }

    func tell(_ figure: String) { figures.append(figure) }

    func progress(_ text: @autoclosure () -> String) {
        terminal.progress("\(engine.rawValue) \(run): \(text())")
    }

    // MARK: The end

    /// When the load is over: the server has as many descriptors as before, has counted what the clients have, and
    /// ends in order at SIGTERM.
    func settle(_ server: ServerProcess, accepted: Int, causes: Set<String>, limit: Duration = .seconds(10)) throws {
        let counts = try server.countsAtRest(within: limit)
        expect(counts.open == 0, "\(counts.open) connections are still open")
        expect(
            counts.accepted == accepted + Self.warmUps,
            "the server has accepted \(counts.accepted - Self.warmUps) connections, not \(accepted)")
        expect(
            counts.closedInAll == counts.accepted,
            "onClose ran \(counts.closedInAll) times for \(counts.accepted) connections")
        let others = counts.closed.filter { !causes.contains($0.key) && $0.key != "peerClosed" }
        expect(others.isEmpty, "connections closed for other reasons: \(others)")
        expect(counts.acceptErrors == 0, "\(counts.acceptErrors) failures to accept")
        try end(server)
    }

    /// The figures at the end, then SIGTERM, which an idle server answers with status 0 at once.
    func end(_ server: ServerProcess) throws {
        try measure(server)
        server.terminate()
        let (_, status) = try server.finish()
        expect(status == 0, "the server's exit status is \(status)")
    }

    func measure(_ server: ServerProcess) throws {
        cpuTime = try server.cpuTime()
        let after = try server.descriptorCount()
        descriptorsAfter = after
        expect(after == descriptorsBefore, "\(after) descriptors are open, \(descriptorsBefore) were before")
        if growth == nil { growth = try server.residentBytes() - residentBefore }
    }

    /// Ends what still runs, and gives the row.
    func row(_ error: (any Error)?) -> Row {
        if let error { failures.append("\(error)") }
        running?.kill()
        return Row(
            engine: engine.rawValue, run: run, load: load, lost: lost,
            descriptors: descriptorsAfter.map { (descriptorsBefore, $0) }, growth: growth,
            cpuTime: cpuTime, figures: figures, failures: failures)
    }
}

extension Client {
    /// Connects, gets one pattern echoed, and closes in order: FIN from here, then FIN from there.
    static func visit(_ port: UInt16, _ pattern: Pattern, size: Int = 64, source: Int = 1) throws {
        let client = try Client(port: port, source: source)
        defer { client.close() }
        let payload = pattern.array(size)
        try client.send(payload)
        try client.receive(payload)
        try client.halfClose()
        try client.receiveEnd()
    }
}
