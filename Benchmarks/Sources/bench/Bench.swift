import ArgumentParser
import BenchmarkKit
import Foundation

@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures this library beside C and other event loops, and checks every byte that comes back.",
        discussion: """
            Build all servers before: swift build -c release --package-path Benchmarks
            Without options everything is measured, which takes a quarter of an hour. Exit status: 0, or 1 when a \
            server failed; a budget that is not met is told in the table.
            """)

    @Option(help: "Only this workload; repeat for several. \(Self.workloadNames).")
    var workload: [String] = []

    @Option(help: "Only this server; repeat for several. \(Self.serverNames).")
    var server: [String] = []

    @Flag(help: "In seconds: every server and workload at a tiny size, to check bytes and not times.")
    var smoke = false

    @Option(help: "Times that each server is measured.")
    var rounds: Int?

    @Option(help: "Write what was measured into this file, for programs.")
    var json: String?

    @Option(help: "Write the page with the results into this file.")
    var markdown: String?

    @Option(help: "Write the plots into this folder.")
    var svg: String?

    @Option(help: "Measure nothing; make tables, page and plots of an earlier run's JSON file.")
    var from: String?

    private static let programs = Programs.ofThisPackage
    private static let workloadNames = (RoundTrips.ids + Workload.all(.full).map(\.id)).joined(separator: ", ")
    private static let serverNames = programs.servers.map(\.id).joined(separator: ", ")

    func validate() throws {
        let workloads = RoundTrips.ids + Workload.all(.full).map(\.id)
        for name in workload where !workloads.contains(name) {
            throw ValidationError("There is no workload \(name). There are: \(Self.workloadNames).")
        }
        let servers = Self.programs.servers.map(\.id)
        for name in server where !servers.contains(name) {
            throw ValidationError("There is no server \(name). There are: \(Self.serverNames).")
        }
        if let rounds, !(1...1000).contains(rounds) {
            throw ValidationError("--rounds \(rounds) is not between 1 and 1000.")
        }
    }

    func run() throws {
        let report = try from.map(read) ?? measured()
        if from != nil || !smoke { print(report) }
        try write(report)
        for failure in report.failures { FileHandle.standardError.write(Data("bench: \(failure)\n".utf8)) }
        if !report.failures.isEmpty { throw ExitCode.failure }
        if smoke { print("All bytes came back: \(report.results.count) workloads, \(sampleCount(report)) runs.") }
    }

    private func sampleCount(_ report: Report) -> Int {
        report.results.flatMap(\.rows).count
    }

    // MARK: Measuring

    private func measured() throws -> Report {
        var size = smoke ? Size.smoke : Size.full
        if let rounds { size.rounds = rounds }
        let chosen = Self.programs.servers.filter { server.isEmpty || server.contains($0.id) }
        let available = Self.programs.availability(of: chosen)
        for one in available where one.absence != nil {
            FileHandle.standardError.write(Data("bench: left out: \(one.server.title): \(one.absence ?? "")\n".utf8))
        }
        var report = Report(machine: .this, size: size, servers: available)
        let line = ProgressLine()
        // Before this process and all that it starts stay on one core.
        if !smoke, RoundTrips.ids.contains(where: wants) {
            line.show("Instructions and allocations")
            report.results += try RoundTrips.measure(Self.programs).filter { wants($0.id) }
        }
        let needsCertificate = Workload.all(size).contains { $0.mode == .tls && wants($0.id) }
        let certificate = needsCertificate ? try Certificate(Self.programs) : nil
        var measurement = Measurement(
            servers: available.filter { $0.absence == nil }.map(\.server), size: size, cores: try Cores.take(),
            descriptorLimit: Cores.raiseDescriptorLimit(), certificate: certificate)
        measurement.progress = { line.show("\($0) (\($1 + 1) of \($2))") }
        for one in Workload.all(size, certificate: certificate) where wants(one.id) {
            report.results.append(measurement.measure(one))
        }
        line.clear()
        report.machine.loadAfter = Machine.loadAverages
        return report
    }

    private func wants(_ name: String) -> Bool {
        workload.isEmpty || workload.contains(name)
    }

    // MARK: Telling

    private func print(_ report: Report) {
        print(report.machine.sentence)
        for result in report.results {
            print("\n\(result.title)")
            print(result.table.text, terminator: "")
        }
        if !report.verdicts.isEmpty {
            print("\nBudgets")
            print(report.budgetTable.text, terminator: "")
        }
        if !report.peerTable.rows.isEmpty {
            print("\nBeside the peers; below 1 the libuv engine is ahead")
            print(report.peerTable.text, terminator: "")
        }
        if !report.groupTable.rows.isEmpty {
            print("\nA group of two loops beside peers with two threads, all on one core")
            print(report.groupTable.text, terminator: "")
        }
    }

    private func print(_ text: String, terminator: String = "\n") {
        Swift.print(text, terminator: terminator)
    }

    private func read(_ file: String) throws -> Report {
        try JSONDecoder().decode(Report.self, from: Data(contentsOf: URL(filePath: file)))
    }

    private func write(_ report: Report) throws {
        if let json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try encoder.encode(report).write(to: URL(filePath: json))
        }
        if let svg {
            try FileManager.default.createDirectory(atPath: svg, withIntermediateDirectories: true)
            for (name, text) in Plots.all(of: report) {
                try Data(text.utf8).write(to: URL(filePath: svg).appending(path: name))
            }
        }
        if let markdown {
            let folder = svg.map { URL(filePath: $0).lastPathComponent }
            try Data(report.markdown(plots: folder).utf8).write(to: URL(filePath: markdown))
        }
    }
}

/// One line that says what is being measured, replaced as it goes on; nothing where nobody looks.
struct ProgressLine {
    private let isTerminal = isatty(STDERR_FILENO) != 0

    func show(_ text: String) {
        // \r: back to the start; [K: the rest of an older line goes.
        if isTerminal { FileHandle.standardError.write(Data("\r\(text)\u{1B}[K".utf8)) }
    }

    func clear() {
        if isTerminal { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
    }
}
