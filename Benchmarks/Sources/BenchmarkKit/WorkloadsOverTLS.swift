private let perConnection = Column(id: "cpu", title: "CPU per connection", unit: "µs")

extension Workload {
    /// Those over TLS 1.3, of servers with this certificate; `nil` to learn their names only.
    static func overTLS(_ size: Size, _ certificate: Certificate?) -> [Workload] {
        [
            echo(
                "tls-echo-64-50", "Echo over TLS, 64 bytes, 50 connections", bytes: 64, connections: 50,
                Column(id: "cpu", title: "CPU per message", unit: "µs"), size, certificate),
            bulk("tls-bulk-64k", "Echo over TLS, 64 KiB, 4 connections", bytes: 64 * 1024, size, certificate),
            bulk("tls-bulk-1m", "Echo over TLS, 1 MiB, 4 connections", bytes: 1024 * 1024, size, certificate),
            connect("tls-connect", "full handshake", resuming: false, size, certificate),
            connect("tls-resume", "resumed handshake", resuming: true, size, certificate),
            idle(size, certificate),
        ]
    }

    private static func bulk(
        _ id: String, _ title: String, bytes: Int, _ size: Size, _ certificate: Certificate?
    ) -> Workload {
        echo(
            id, title, bytes: bytes, connections: 4, Column(id: "cpu", title: "CPU per MiB", unit: "µs"),
            share: Double(bytes) / 1_048_576, size, certificate)
    }

    /// - Parameter share: A message, in what the column is about.
    private static func echo(
        _ id: String, _ title: String, bytes: Int, connections: Int, _ column: Column, share: Double = 1,
        _ size: Size, _ certificate: Certificate?
    ) -> Workload {
        Workload(
            id: id, title: title, mode: .tls, columns: [column], descriptors: connections
        ) { (server, _) throws(BenchmarkError) in
            let load = try Load(port: server.port, connections: connections, certificate: certificate)
            let seconds = try cost(
                server, of: { (seconds) throws(BenchmarkError) in try load.echo(size: bytes, seconds: seconds) }, size)
            try load.close()
            return Sample(values: ["cpu": seconds * 1e6 / share])
        }
    }

    private static func connect(
        _ id: String, _ title: String, resuming: Bool, _ size: Size, _ certificate: Certificate?
    ) -> Workload {
        Workload(
            id: id, title: "TLS: connect, \(title), one echo of 64 bytes, close; 32 at a time", mode: .tls,
            columns: [perConnection]
        ) { (server, _) throws(BenchmarkError) in
            let seconds = try cost(
                server,
                of: { (seconds) throws(BenchmarkError) in
                    try Load.connect(
                        port: server.port, atATime: 32, size: 64, seconds: seconds, certificate: certificate,
                        resuming: resuming)
                }, size)
            return Sample(values: ["cpu": seconds * 1e6])
        }
    }

    /// In bytes: nearly the largest record, so that whoever keeps buffers keeps large ones.
    private static let idleMessage = 16_000

    private static func idle(_ size: Size, _ certificate: Certificate?) -> Workload {
        let count = size.idleTLSConnections
        return Workload(
            id: "tls-idle", title: "\(count) idle connections over TLS", mode: .tls,
            columns: [
                Column(id: "kib", title: "resident each", unit: "KiB"),
                Column(id: "used", title: "resident each after 16 kB echoed", unit: "KiB"),
            ],
            roundShare: 1 / 3, descriptors: count
        ) { (server, _) throws(BenchmarkError) in
            // What the first connection brings, code and buffers of the loop, is not each one's.
            let load = try Load(port: server.port, connections: 1, certificate: certificate)
            _ = try load.echo(size: idleMessage, seconds: 0)
            let before = try server.residentBytes()
            try load.grow(to: count + 1)
            // A client's handshake is over before the server's: this one's message comes behind all of them.
            let last = try Load(port: server.port, connections: 1, certificate: certificate)
            _ = try last.echo(size: 64, seconds: 0)
            try last.close()
            let connected = try server.residentBytes()
            _ = try load.echo(size: idleMessage, seconds: 0)
            let used = try server.residentBytes()
            try load.close()
            func each(_ bytes: Int) -> Double { Double(bytes - before) / 1024 / Double(count) }
            return Sample(values: ["kib": each(connected), "used": each(used)])
        }
    }
}
