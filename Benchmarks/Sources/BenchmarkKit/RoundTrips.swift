internal import Foundation

/// The workloads that no clock measures: instructions and allocations for one message, by `budgets.sh`.
package enum RoundTrips {
    package static let ids = tables.map(\.id)

    /// How a heading of the script begins, and the workload that stands below it.
    private static let tables = [
        (heading: "64-byte round trip", id: "round-trip", title: "Echo, 64 bytes, one connection, in instructions"),
        (
            heading: "64 bytes over TLS", id: "tls-round-trip",
            title: "Echo over TLS, 64 bytes, one connection, in instructions"
        ),
        (
            heading: "TLS, full handshake", id: "tls-connect-round-trip",
            title: "TLS: connect, full handshake, one echo of 64 bytes, close, in instructions"
        ),
        (
            heading: "TLS, resumed handshake", id: "tls-resume-round-trip",
            title: "TLS: connect, resumed handshake, one echo of 64 bytes, close, in instructions"
        ),
    ]

    /// Servers whose row in the script does not begin with their name.
    private static let servers = [
        "C libuv": "c-libuv", "C epoll": "c-epoll", "C TLS": "c-tls", "libuv engine, async": "async",
        "libuv engine, TLS": "tls",
    ]

    /// None where valgrind is not installed.
    package static func measure(_ programs: Programs) throws(BenchmarkError) -> [WorkloadResult] {
        guard output(of: ["valgrind", "--version"]) != nil else { return [] }
        let process = Process()
        process.executableURL = URL(filePath: programs.package + "/budgets.sh")
        let pipe = Pipe()
        process.standardOutput = pipe
        do { try process.run() } catch { throw BenchmarkError("budgets.sh: \(error)") }
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let results = parse(text)
        // With status 1 it has measured, and a budget is exceeded; the report says so, too.
        guard process.terminationStatus <= 1, results.contains(where: { !$0.rows.isEmpty }) else {
            throw BenchmarkError("budgets.sh has measured nothing: \(text)")
        }
        return results
    }

    /// Lines such as `libuv engine   759.0   1.094   0.000`, below headings.
    package static func parse(_ text: String) -> [WorkloadResult] {
        var results: [WorkloadResult] = []
        for line in text.split(separator: "\n") {
            if let table = tables.first(where: { line.hasPrefix($0.heading) }) {
                results.append(
                    WorkloadResult(
                        id: table.id, title: table.title,
                        columns: [
                            Column(id: "instructions", title: "instructions in user space", unit: ""),
                            Column(id: "allocations", title: "allocations", unit: ""),
                        ]))
                continue
            }
            let words = line.split(separator: " ")
            guard words.count > 3, let allocations = Double(words[words.count - 1]),
                let instructions = Double(words[words.count - 3]), let last = results.indices.last
            else { continue }
            let title = words.dropLast(3).joined(separator: " ")
            results[last].rows.append(
                WorkloadResult.Row(
                    server: servers[title] ?? String(words[0]), title: title,
                    samples: ["instructions": [instructions], "allocations": [allocations]]))
        }
        return results
    }
}
