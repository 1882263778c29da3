internal import Foundation

/// The workload that no clock measures: instructions and allocations for one message, by `budgets.sh`.
package enum RoundTrips {
    package static let id = "round-trip"

    /// Nothing where valgrind is not installed.
    package static func measure(_ programs: Programs) throws(BenchmarkError) -> WorkloadResult? {
        guard output(of: ["valgrind", "--version"]) != nil else { return nil }
        let process = Process()
        process.executableURL = URL(filePath: programs.package + "/budgets.sh")
        let pipe = Pipe()
        process.standardOutput = pipe
        do { try process.run() } catch { throw BenchmarkError("budgets.sh: \(error)") }
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let result = parse(text)
        // With status 1 it has measured, and a budget is exceeded; the report says so, too.
        guard process.terminationStatus <= 1, !result.rows.isEmpty else {
            throw BenchmarkError("budgets.sh has measured nothing: \(text)")
        }
        return result
    }

    /// Lines such as `libuv engine   759.0   1.094   0.000`, below a heading.
    package static func parse(_ text: String) -> WorkloadResult {
        var result = WorkloadResult(
            id: id, title: "Echo, 64 bytes, one connection, in instructions",
            columns: [
                Column(id: "instructions", title: "instructions in user space", unit: ""),
                Column(id: "allocations", title: "allocations", unit: ""),
            ])
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 3, let allocations = Double(words[words.count - 1]),
                let instructions = Double(words[words.count - 3])
            else { continue }
            let title = words.dropLast(3).joined(separator: " ")
            let server = ["C libuv": "c-libuv", "C epoll": "c-epoll"][title] ?? String(words[0])
            result.rows.append(
                WorkloadResult.Row(
                    server: server, title: title,
                    samples: ["instructions": [instructions], "allocations": [allocations]]))
        }
        return result
    }
}
