import Foundation

/// What came of one run on one engine; the table is one that Markdown shows as well.
struct Row {
    let engine: String
    let run: String
    let load: String
    let lost: Int
    let descriptors: (before: Int, after: Int)?
    let growth: Int?
    let cpuTime: Duration
    let figures: [String]
    let failures: [String]

    var isWell: Bool { lost == 0 && failures.isEmpty }

    private static let widths = [6, 13, 28, 4, 11, 10, 7, 6]

    static var header: String {
        let names = ["engine", "run", "load", "lost", "descriptors", "memory", "CPU", "result"]
        return line(names, "figures") + "\n" + line(widths.map { String(repeating: "-", count: $0) }, "-------")
    }

    var line: String {
        let descriptors = descriptors.map { "\($0.before) → \($0.after)" } ?? "-"
        let memory = growth.map { String(format: "%+.2f MiB", Double($0) / 1_048_576) } ?? "-"
        let columns = [
            engine, run, load, "\(lost)", descriptors, memory, String(format: "%.1f s", cpuTime.seconds),
            isWell ? "well" : "FAILED",
        ]
        return Self.line(columns, figures.joined(separator: "; "))
    }

    private static func line(_ columns: [String], _ last: String) -> String {
        let cells = zip(columns, widths).map { text, width in
            text + String(repeating: " ", count: max(0, width - text.count))
        }
        return "| " + cells.joined(separator: " | ") + " | " + last + " |"
    }
}

extension Int {
    /// 1000000 as 1,000,000.
    var grouped: String {
        var digits = Array(String(magnitude))
        for position in stride(from: digits.count - 3, to: 0, by: -3) { digits.insert(",", at: position) }
        return (self < 0 ? "-" : "") + String(digits)
    }
}
