internal import Glibc

/// What a server may cost in a workload.
package struct Budget: Sendable {
    package let workload: String
    package let column: String
    package let server: String
    package let bound: Bound

    package enum Bound: Sendable {
        /// So many of the column's units.
        case atMost(Double)
        /// So many times what another server has in this column.
        case atMostTimes(Double, of: String)
        case atLeastTimes(Double, of: String)
        /// So many times what the same server has in another column.
        case atMostTimesColumn(Double, of: String)
    }

    /// How a budget stands.
    package struct Verdict: Sendable {
        package let budget: Budget
        package let workloadTitle: String
        package let serverTitle: String
        /// The budget in words.
        package let demand: String
        /// For ratios the median of the rounds' ratios.
        package let measured: Double
        package let least: Double
        package let most: Double
        package let isMet: Bool
    }

    /// The budgets of the table in `Benchmarks/README.md`.
    package static let all: [Budget] =
        [
            Budget("round-trip", "instructions", "libuv", .atMostTimes(1.15, of: "c-libuv")),
            Budget("round-trip", "instructions", "epoll", .atMost(300)),
        ] + ["libuv", "epoll", "poll", "select"].map { Budget("round-trip", "allocations", $0, .atMost(0)) }
        + [Budget("round-trip", "allocations", "async", .atMost(1))]
        + ["echo-64-50", "echo-64-500"].flatMap { workload in
            [
                Budget(workload, "cpu", "libuv", .atMostTimes(1.03, of: "c-libuv")),
                Budget(workload, "cpu", "libuv", .atMostTimes(1.05, of: "c-epoll")),
                Budget(workload, "cpu", "group-2", .atMostTimes(1.05, of: "group-1")),
                Budget(workload, "cpu", "async", .atMostTimes(1.3, of: "libuv")),
                Budget(workload, "cpu", "async", .atMostTimes(0.35, of: "nio-async")),
            ]
        } + ["bulk-64k", "bulk-1m"].map { Budget($0, "rate", "libuv", .atLeastTimes(0.97, of: "c-libuv")) }
        + [
            Budget("lines", "cpu", "libuv", .atMostTimes(1.0 / 5, of: "c-libuv")),
            Budget("lines", "cpu", "libuv", .atMostTimes(1, of: "c-libuv-batched")),
            Budget("connect", "rate", "libuv", .atLeastTimes(0.95, of: "c-libuv")),
            Budget("idle", "bytes", "libuv", .atMost(600)),
            Budget("idle", "cpu", "libuv", .atMost(1)),
            Budget("fan-out", "cpu", "libuv", .atMostTimes(1.1, of: "c-libuv")),
            Budget("neighbours", "15000", "libuv", .atMostTimesColumn(1.1, of: "0")),
            Budget("neighbours", "15000", "epoll", .atMostTimesColumn(1.1, of: "0")),
            Budget("latency", "usual-p99", "libuv", .atMostTimes(1.1, of: "c-libuv")),
        ] + overTLS

    private static let overTLS: [Budget] =
        [Budget("tls-round-trip", "instructions", "tls", .atMostTimes(1.02, of: "c-tls"))]
        + ["tls-connect-round-trip", "tls-resume-round-trip"].map {
            Budget($0, "instructions", "tls", .atMostTimes(1.03, of: "c-tls"))
        }
        + ["tls-echo-64-50", "tls-bulk-64k", "tls-bulk-1m"].map {
            Budget($0, "cpu", "tls", .atMostTimes(1.02, of: "c-tls"))
        } + ["tls-connect", "tls-resume"].map { Budget($0, "cpu", "tls", .atMostTimes(1.03, of: "c-tls")) }
        + ["kib", "used"].map { Budget("tls-idle", $0, "tls", .atMostTimes(1.05, of: "c-tls")) }

    private init(_ workload: String, _ column: String, _ server: String, _ bound: Bound) {
        self.workload = workload
        self.column = column
        self.server = server
        self.bound = bound
    }

    /// Nothing if what it is about was not measured.
    package func verdict(on report: Report) -> Verdict? {
        guard let result = report.results.first(where: { $0.id == workload }),
            let row = result.rows.first(where: { $0.server == server }),
            let unit = result.columns.first(where: { $0.id == column })
        else { return nil }
        let samples = result.samples(server, column)
        func title(_ id: String) -> String { result.rows.first { $0.server == id }?.title ?? id }
        func paired(_ others: [Double]) -> [Double] { zip(samples, others).map { $0 / $1 } }
        let values: [Double]
        let demand: String
        let isMet: (Double) -> Bool
        switch bound {
        case .atMost(let limit):
            values = samples
            demand = "≤ \(figure(limit)) \(unit.unit)"
            isMet = { $0 <= limit }
        case .atMostTimes(let limit, let other):
            values = paired(result.samples(other, column))
            demand = "≤ \(figure(limit)) × \(title(other))"
            isMet = { $0 <= limit }
        case .atLeastTimes(let limit, let other):
            values = paired(result.samples(other, column))
            demand = "≥ \(figure(limit)) × \(title(other))"
            isMet = { $0 >= limit }
        case .atMostTimesColumn(let limit, let other):
            values = paired(result.samples(server, other))
            demand = "≤ \(figure(limit)) × with \(other)"
            isMet = { $0 <= limit }
        }
        guard let least = values.min(), let most = values.max() else { return nil }
        let middle = median(values)
        return Verdict(
            budget: self, workloadTitle: "\(result.title): \(unit.title)", serverTitle: row.title, demand: demand,
            measured: middle, least: least, most: most, isMet: isMet(middle))
    }
}

/// A number with as many digits as a reader needs: three that count, and all before the point.
package func figure(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    let size = abs(value)
    let digits = size >= 100 || value == value.rounded() ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3
    let scale = pow(10, Double(digits))
    let scaled = Int64((size * scale).rounded())
    let whole = grouped(scaled / Int64(scale))
    let rest = digits == 0 ? "" : "." + padded("\(scaled % Int64(scale))", to: digits, with: "0", before: true)
    return (value < 0 && scaled != 0 ? "-" : "") + whole + rest
}

/// With a comma before each three digits.
private func grouped(_ number: Int64) -> String {
    var text = ""
    for (place, digit) in "\(number)".reversed().enumerated() {
        if place > 0, place.isMultiple(of: 3) { text = "," + text }
        text = "\(digit)" + text
    }
    return text
}

func padded(_ text: String, to width: Int, with filler: Character = " ", before: Bool = false) -> String {
    let padding = String(repeating: filler, count: max(0, width - text.count))
    return before ? padding + text : text + padding
}
