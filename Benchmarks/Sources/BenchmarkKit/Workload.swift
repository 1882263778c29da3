/// How much of a workload is run.
package struct Size: Sendable {
    /// Length of one measurement, in seconds, and of the run before it that warms up the server.
    package var seconds: Double
    package var warmUp: Double
    /// Times that every server is measured, in turns.
    package var rounds: Int
    package var idleConnections: Int
    /// For idle processor time.
    package var idleSeconds: Double
    package var subscribers: Int
    /// Idle connections beside the busy ones.
    package var neighbours: [Int]
    package var latencySeconds: Double
    package var idleTLSConnections: Int

    package static let full = Size(
        seconds: 0.4, warmUp: 0.1, rounds: 9, idleConnections: 15_000, idleSeconds: 1, subscribers: 1000,
        neighbours: [0, 100, 500, 900, 1000, 5000, 15_000], latencySeconds: 2, idleTLSConnections: 5000)

    /// Enough to have every byte checked; no time of it says anything.
    package static let smoke = Size(
        seconds: 0.01, warmUp: 0, rounds: 1, idleConnections: 200, idleSeconds: 0.01, subscribers: 50,
        neighbours: [0, 100], latencySeconds: 0.02, idleTLSConnections: 50)
}

/// What one number of a workload is.
package struct Column: Codable, Sendable {
    package let id: String
    package let title: String
    package let unit: String
    package let isBetterWhenHigher: Bool

    package init(id: String, title: String, unit: String, isBetterWhenHigher: Bool = false) {
        self.id = id
        self.title = title
        self.unit = unit
        self.isBetterWhenHigher = isBetterWhenHigher
    }
}

/// What one run against one server gave: a number for each column, and perhaps the distribution behind them.
package struct Sample {
    package var values: [String: Double] = [:]
    package var latencies: [Int64] = []
}

/// One row of the design's table: a load, and what is measured under it.
package struct Workload {
    /// As `--workload` names it.
    package let id: String
    package let title: String
    package let mode: ServerMode
    package let columns: [Column]
    /// Of all rounds, this part; for workloads that take long.
    package var roundShare = 1.0
    /// Servers that are measured; nil for all that have the mode.
    package var only: Set<String>? = nil
    /// Descriptors that a server needs for it.
    package var descriptors = 0
    package let sample: (ServerProcess, Server) throws(BenchmarkError) -> Sample
}

private let perMessage = Column(id: "cpu", title: "CPU per message", unit: "µs")

extension Workload {
    /// All of them, in the order of the design's table. Those over TLS need a certificate to be measured.
    package static func all(_ size: Size, certificate: Certificate? = nil) -> [Workload] {
        [
            echo("echo-64-50", "64 bytes, 50 connections", connections: 50, size),
            echo("echo-64-500", "64 bytes, 500 connections", connections: 500, size),
            bulk("bulk-64k", "64 KiB, 4 connections", bytes: 64 * 1024, size),
            bulk("bulk-1m", "1 MiB, 4 connections", bytes: 1024 * 1024, size),
            lines(size), connect(size), idle(size), fanOut(size), neighbours(size), latency(size),
        ] + overTLS(size, certificate)
    }

    /// CPU seconds of the server for one of what `work` counts.
    static func cost(
        _ server: ServerProcess, of work: (Double) throws(BenchmarkError) -> Int, _ size: Size
    ) throws(BenchmarkError) -> Double {
        if size.warmUp > 0 { _ = try work(size.warmUp) }
        let start = try server.processorTime()
        let count = try work(size.seconds)
        return (try server.processorTime() - start) / Double(count)
    }

    private static func echo(_ id: String, _ title: String, connections: Int, _ size: Size) -> Workload {
        Workload(
            id: id, title: "Echo, " + title, mode: .echo, columns: [perMessage], descriptors: connections
        ) { (server, _) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: connections)
            let seconds = try cost(
                server, of: { (seconds) throws(BenchmarkError) in try load.echo(size: 64, seconds: seconds) }, size)
            try load.close()
            return Sample(values: ["cpu": seconds * 1e6])
        }
    }

    private static func bulk(_ id: String, _ title: String, bytes: Int, _ size: Size) -> Workload {
        Workload(
            id: id, title: "Echo, " + title, mode: .echo,
            columns: [Column(id: "rate", title: "per CPU second", unit: "MiB", isBetterWhenHigher: true)]
        ) { (server, _) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: 4)
            let seconds = try cost(
                server, of: { (seconds) throws(BenchmarkError) in try load.echo(size: bytes, seconds: seconds) }, size)
            try load.close()
            return Sample(values: ["rate": Double(bytes) / 1_048_576 / seconds])
        }
    }

    private static func lines(_ size: Size) -> Workload {
        let lineCount = 100
        return Workload(
            id: "lines", title: "100 lines of 16 bytes in one segment, one write per line", mode: .lines,
            columns: [Column(id: "cpu", title: "CPU per line", unit: "ns")]
        ) { (server, _) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: 10)
            let seconds = try cost(
                server,
                of: { (seconds) throws(BenchmarkError) in try load.echo(size: 16 * lineCount, seconds: seconds) }, size)
            try load.close()
            return Sample(values: ["cpu": seconds * 1e9 / Double(lineCount)])
        }
    }

    private static func connect(_ size: Size) -> Workload {
        Workload(
            id: "connect", title: "Connect, one echo of 64 bytes, close; 32 at a time", mode: .echo,
            columns: [Column(id: "rate", title: "connections per CPU second", unit: "", isBetterWhenHigher: true)]
        ) { (server, _) throws(BenchmarkError) in
            let seconds = try cost(
                server,
                of: { (seconds) throws(BenchmarkError) in
                    try Load.connect(port: server.port, atATime: 32, size: 64, seconds: seconds)
                }, size)
            return Sample(values: ["rate": 1 / seconds])
        }
    }

    private static func idle(_ size: Size) -> Workload {
        Workload(
            id: "idle", title: "\(size.idleConnections) idle connections", mode: .echo,
            columns: [
                Column(id: "bytes", title: "resident each", unit: "bytes"),
                Column(id: "used", title: "resident each after one message", unit: "bytes"),
                Column(id: "cpu", title: "of a core while idle", unit: "%"),
            ],
            roundShare: 1 / 3, descriptors: size.idleConnections
        ) { (server, _) throws(BenchmarkError) in
            // What the first connection brings, code and buffers of the loop, is not each one's.
            let load = try Load(port: server.port, connections: 1)
            _ = try load.echo(size: 64, seconds: 0)
            let before = try server.residentBytes()
            try load.grow(to: size.idleConnections + 1)
            try awaitAccepted(server)
            let connected = try server.residentBytes()
            let start = try server.processorTime()
            pause(seconds: size.idleSeconds)
            let idle = try server.processorTime() - start
            _ = try load.echo(size: 64, seconds: 0)
            let used = try server.residentBytes()
            try load.close()
            let count = Double(size.idleConnections)
            return Sample(values: [
                "bytes": Double(connected - before) / count, "used": Double(used - before) / count,
                "cpu": idle / size.idleSeconds * 100,
            ])
        }
    }

    /// The kernel connects before the server accepts, in that order: when the last one is answered, all are accepted.
    private static func awaitAccepted(_ server: ServerProcess) throws(BenchmarkError) {
        let last = try Load(port: server.port, connections: 1)
        _ = try last.echo(size: 64, seconds: 0)
        try last.close()
    }

    private static func fanOut(_ size: Size) -> Workload {
        Workload(
            id: "fan-out", title: "Fan-out, 1 KiB to \(size.subscribers) connections", mode: .fanOut,
            columns: [Column(id: "cpu", title: "CPU per copy delivered", unit: "µs")],
            descriptors: size.subscribers
        ) { (server, _) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: size.subscribers)
            // Not before the server has all of them does each get each message.
            try awaitSubscribed(server)
            let seconds = try cost(
                server, of: { (seconds) throws(BenchmarkError) in try load.fanOut(size: 1024, seconds: seconds) }, size)
            try load.close()
            return Sample(values: ["cpu": seconds * 1e6 / Double(size.subscribers)])
        }
    }

    /// A server that fans out answers nobody alone; but it closes who ends, in the order of accepting.
    private static func awaitSubscribed(_ server: ServerProcess) throws(BenchmarkError) {
        try Load(port: server.port, connections: 1).close()
    }

    private static func neighbours(_ size: Size) -> Workload {
        Workload(
            id: "neighbours", title: "64 bytes, 50 busy connections beside idle ones", mode: .echo,
            columns: size.neighbours.map { Column(id: "\($0)", title: "\($0) idle", unit: "µs") },
            roundShare: 5 / 9, only: ["libuv", "epoll", "poll", "select"]
        ) { (server, kind) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: 50)
            var sample = Sample()
            for count in size.neighbours where count + 100 < kind.descriptorLimit {
                try load.grow(to: count + 50)
                try awaitAccepted(server)
                let seconds = try cost(
                    server,
                    of: { (seconds) throws(BenchmarkError) in try load.echo(over: 50, size: 64, seconds: seconds) },
                    size)
                sample.values["\(count)"] = seconds * 1e6
            }
            try load.close()
            return sample
        }
    }

    /// Messages a second in the closed loop, in the best of some trials: the others were disturbed.
    private static func capacity(of load: Load, seconds: Double) throws(BenchmarkError) -> Double {
        let trials = 5
        var most = 0
        for _ in 0..<trials { most = max(most, try load.echo(size: 64, seconds: seconds / Double(trials))) }
        return Double(most) / (seconds / Double(trials))
    }

    /// 100 ms, in seconds: long enough for a p99, and short enough that a machine's pause spoils only a few.
    private static let latencyWindow = 0.1

    private static func latency(_ size: Size) -> Workload {
        // Half of what the first server does when each message waits for the last one: C libuv, unless left out.
        var rate: Double?
        return Workload(
            id: "latency", title: "Latency at a fixed rate, 64 bytes, 50 connections", mode: .echo,
            columns: [
                Column(id: "p50", title: "p50", unit: "µs"),
                Column(id: "usual-p99", title: "usual p99", unit: "µs"),
                Column(id: "p99", title: "p99", unit: "µs"), Column(id: "p99.9", title: "p99.9", unit: "µs"),
                Column(id: "offered", title: "messages a second", unit: ""),
            ],
            roundShare: 7 / 9
        ) { (server, _) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: 50)
            let warmUp = size.latencySeconds / 2
            let known = rate
            let offered = if let known { known } else { try capacity(of: load, seconds: warmUp) / 2 }
            rate = offered
            _ = try load.echo(size: 64, perSecond: offered, messages: Int(offered * warmUp))
            let latencies = try load.echo(
                size: 64, perSecond: offered, messages: max(1, Int(offered * size.latencySeconds)))
            try load.close()
            let distribution = Distribution(latencies)
            return Sample(
                values: [
                    "p50": distribution.microseconds(at: 50), "p99": distribution.microseconds(at: 99),
                    "usual-p99": usualP99(of: latencies, window: max(1, Int(offered * latencyWindow))),
                    "p99.9": distribution.microseconds(at: 99.9), "offered": offered,
                ],
                latencies: latencies)
        }
    }
}
