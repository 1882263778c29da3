/// All that a run has measured: what the table, the page, the plots and the JSON file are made of.
package struct Report: Codable, Sendable {
    package var machine: Machine
    package var rounds: Int
    package var seconds: Double
    package var servers: [ServerNote]
    package var results: [WorkloadResult] = []

    /// A server that took part, or that did not.
    package struct ServerNote: Codable, Sendable {
        package let id: String
        package let title: String
        package let version: String?
        package let absence: String?
    }

    package init(machine: Machine, size: Size, servers: [Availability]) {
        self.machine = machine
        rounds = size.rounds
        seconds = size.seconds
        self.servers = servers.map {
            ServerNote(id: $0.server.id, title: $0.server.title, version: $0.version, absence: $0.absence)
        }
    }

    package var failures: [String] {
        results.flatMap { result in
            result.rows.compactMap { row in row.failure.map { "\(result.title): \(row.title): \($0)" } }
        }
    }
}

/// One workload, measured.
package struct WorkloadResult: Codable, Sendable {
    package let id: String
    package let title: String
    package let columns: [Column]
    package var rows: [Row]

    package struct Row: Codable, Sendable {
        package let server: String
        package let title: String
        /// For each column, a number for each round.
        package var samples: [String: [Double]]
        package var latencyCurve: [CurvePoint] = []
        package var failure: String?

        package init(server: String, title: String, samples: [String: [Double]] = [:]) {
            self.server = server
            self.title = title
            self.samples = samples
        }
    }

    package init(id: String, title: String, columns: [Column], rows: [Row] = []) {
        self.id = id
        self.title = title
        self.columns = columns
        self.rows = rows
    }

    package func samples(_ server: String, _ column: String) -> [Double] {
        rows.first { $0.server == server }?.samples[column] ?? []
    }

    /// How a server compares with another in one column.
    package func ratio(of server: String, to reference: String, _ column: String) -> Ratio? {
        let these = samples(server, column)
        let those = samples(reference, column)
        guard !these.isEmpty, those.count == these.count else { return nil }
        return Ratio(these, to: those)
    }

    /// What the workload's ratios are relative to: its first row.
    package var reference: String? { rows.first?.server }
}

/// Two ways to compare what was measured in turns. They agree unless the machine was busier in some rounds.
package struct Ratio: Sendable {
    /// Of the medians.
    package let ofMedians: Double
    /// The median of the ratios of each round.
    package let paired: Double

    package init(_ these: [Double], to those: [Double]) {
        ofMedians = BenchmarkKit.median(these) / BenchmarkKit.median(those)
        paired = BenchmarkKit.median(zip(these, those).map { $0 / $1 })
    }
}

/// Where a run was made.
package struct Machine: Codable, Sendable {
    package let processor: String
    package let cores: Int
    package let kernel: String
    package let libuv: String
    package var openSSL: String?
    package let swift: String
    package let date: String
    /// Load averages before the run; those behind it, of which the run itself makes one or two.
    package let load: String
    package var loadAfter: String?

    package init(
        processor: String, cores: Int, kernel: String, libuv: String, openSSL: String? = nil, swift: String,
        date: String, load: String
    ) {
        self.processor = processor
        self.cores = cores
        self.kernel = kernel
        self.libuv = libuv
        self.openSSL = openSSL
        self.swift = swift
        self.date = date
        self.load = load
    }
}
