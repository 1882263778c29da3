import ArgumentParser
import BenchmarkKit

@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures this library beside C and other event loops, in turns, and checks every byte.")

    @Option(name: .long, help: "Only this workload; repeat for several.")
    var workload: [String] = []

    @Option(name: .long, help: "Only this server; repeat for several. The first is what ratios are relative to.")
    var server: [String] = []

    @Flag(help: "Seconds in all: every server and workload at a tiny size, to check bytes and not times.")
    var smoke = false

    @Option(help: "Times that each server is measured.")
    var rounds: Int?

    func run() throws {
        var size = smoke ? Size.smoke : Size.full
        if let rounds { size.rounds = rounds }
        let programs = Programs.ofThisPackage
        let available = programs.availability(of: programs.servers)
        let limit = Cores.raiseDescriptorLimit()
        let cores = try Cores.take()
        let servers = available.filter { $0.absence == nil }.map(\.server).filter { server.isEmpty || server.contains($0.id) }
        for absent in available where absent.absence != nil { print("absent: \(absent.server.title): \(absent.absence!)") }
        let measurement = Measurement(servers: servers, size: size, cores: cores, descriptorLimit: limit)
        for w in Workload.all(size) where workload.isEmpty || workload.contains(w.id) {
            let result = measurement.measure(w)
            print(result.title)
            for row in result.rows {
                if let failure = row.failure { print("  \(row.title): \(failure)"); continue }
                for column in result.columns {
                    let s = row.samples[column.id] ?? []
                    let r = result.ratio(of: row.server, to: result.reference!, column.id)
                    print("  \(row.title) \(column.title): \(median(s)) \(s.min() ?? 0) \(s.max() ?? 0) ratio \(r?.ofMedians ?? 0) \(r?.paired ?? 0)")
                }
            }
        }
    }
}
