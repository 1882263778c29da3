import CallbackServer
import Glibc
import TestSupport
import Testing

/// Many connections at rest, each with an idle time-out. `CALLBACKSERVER_IDLE_CLIENTS=15000` is the full size: it
/// observes for ten seconds, and tells figures.
@Suite(.serialized, .timeLimit(.minutes(20)), .onOwnThread)
struct `Connections at rest` {
    /// What a connection with its time-out may cost, in bytes of memory in RAM.
    private static let bound = 600

    @Test(arguments: Engine.allCases)
    func `cost 600 bytes each at most, and no time`(engine: Engine) throws {
        let wanted = size("CALLBACKSERVER_IDLE_CLIENTS", orElse: 1_000)
        // select(2) has room for descriptors below 1,024; the engine turns clients beyond away, by name.
        let count = engine == .select ? min(wanted, 900) : wanted
        try raiseDescriptorLimit(to: wanted + 4_096)
        let echo = try EchoProcess(engine, ["--quiet", "--idle-timeout", "3600", "--backlog", "4096"])
        // What a server has once it serves at all is there before.
        var clients = try served(by: echo, count: 50, from: 0)
        let before = try residentBytes(of: echo.child.pid)
        clients += try served(by: echo, count: count, from: clients.count)
        let bytes = Double(try residentBytes(of: echo.child.pid) - before) / Double(count)
        // A sanitizer puts room around each block, which is its cost and not the server's.
        #expect(isSanitized || bytes <= Double(Self.bound), "\(count) connections")

        let isFull = wanted > 1_000
        let time = isFull ? 10.0 : 1.0
        let start = try cpuSeconds(of: echo.child.pid)
        observe(for: .seconds(time))
        let load = (try cpuSeconds(of: echo.child.pid) - start) / time
        // 1 %, and a clock tick, the unit of the figure.
        #expect(load <= 0.01 + 0.01 / time)
        if isFull { print("at rest, \(engine): \(count) connections, \(bytes) bytes each, \(load * 100) % of a core") }
        for client in clients { client.close() }
        try echo.stop()
    }

    /// Clients that have had one answer, over several addresses of this host, whose ports are not enough for all.
    private func served(by echo: EchoProcess, count: Int, from first: Int) throws -> [PlainClient] {
        try (first..<first + count).map { number in
            let client = try PlainClient(port: echo.port, host: "127.0.0.\(1 + number % 16)")
            try client.send("x")
            _ = try client.receive(exactly: 1)
            return client
        }
    }
}
