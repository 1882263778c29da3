internal import Glibc

/// The plots of a report, by file name.
package enum Plots {
    package static func names(of workload: String) -> [String] {
        switch workload {
        case "neighbours": ["neighbours.svg"]
        case "latency": ["latency.svg"]
        default: ["\(workload).svg"]
        }
    }

    package static func all(of report: Report) -> [String: String] {
        var plots: [String: String] = [:]
        for result in report.results where !result.rows.isEmpty {
            let drawn =
                switch result.id {
                case "neighbours": neighbours(result)
                case "latency": latency(result)
                default: bars(result)
                }
            plots[names(of: result.id)[0]] = drawn
        }
        return plots
    }

    // MARK: Bars

    /// A bar for each server in the first column, with the spread as a thin line on its end.
    static func bars(_ result: WorkloadResult) -> String {
        let column = result.columns[0]
        let rows = result.rows.filter { !($0.samples[column.id] ?? []).isEmpty }
        let left = 190.0
        let barWidth = 440.0
        let top = 64.0
        let step = 26.0
        var svg = SVG(width: 760, height: top + step * Double(rows.count) + 16)
        svg.write(result.title, x: 20, y: 26, size: 15, isBold: true)
        let better = column.isBetterWhenHigher ? "longer is better" : "shorter is better"
        svg.write("\(column.heading); \(better)", x: 20, y: 46, fill: Ink.faint)
        let most = rows.flatMap { $0.samples[column.id] ?? [] }.max() ?? 1
        let longest = rows.map { median($0.samples[column.id] ?? []) }.max() ?? 1
        // One wild round must not press all bars together.
        let scale = barWidth / max(min(most, longest * 1.3), .leastNormalMagnitude)
        for (index, row) in rows.enumerated() {
            let samples = row.samples[column.id] ?? []
            let y = top + step * Double(index)
            let end = left + median(samples) * scale
            svg.write(
                row.title, x: left - 12, y: y + 14, anchor: .end, isBold: ["libuv", "tls"].contains(row.server))
            svg.rectangle(
                x: left, y: y, width: end - left, height: 18, fill: Ink.bar(of: row.server), radius: 2)
            let least = left + (samples.min() ?? 0) * scale
            let farthest = min(left + (samples.max() ?? 0) * scale, left + barWidth)
            svg.line((least, y + 9), (farthest, y + 9), stroke: Ink.text, width: 1.2)
            let ratio = result.reference.flatMap { result.ratio(of: row.server, to: $0, column.id) }
            let relation = index == 0 ? "" : ratio.map { "  (× \(figure($0.paired)))" } ?? ""
            svg.write(figure(median(samples)) + relation, x: max(end, farthest) + 8, y: y + 14)
        }
        return svg.text
    }

    // MARK: Curves

    /// What a message costs each engine as idle connections are added.
    static func neighbours(_ result: WorkloadResult) -> String {
        let counts = result.columns.compactMap { Double($0.id) }
        let values = result.rows.flatMap { row in row.samples.values.map(median) }
        var chart = Chart(
            title: "What a message costs beside idle connections",
            subtitle: "CPU per message in µs (64 bytes, 50 busy connections), by the number of idle connections",
            x: Chart.Axis(
                least: 0, most: place(of: counts.max() ?? 1), ticks: counts.map { (place(of: $0), figure($0)) }),
            y: .logarithmic(over: values))
        for row in result.rows {
            let points = result.columns.compactMap { column -> (Double, Double)? in
                guard let samples = row.samples[column.id], let count = Double(column.id) else { return nil }
                return (place(of: count), log10(median(samples)))
            }
            chart.add(row.title, points, color: Ink.line(of: row.server), hasDots: true)
        }
        return chart.drawn
    }

    /// Logarithmic, but with a place for 0.
    private static func place(of count: Double) -> Double {
        log10(1 + count / 100)
    }

    /// Latency by percentile, the last ones stretched: that is where servers differ.
    static func latency(_ result: WorkloadResult) -> String {
        func place(_ percentile: Double) -> Double { -log10(1 - percentile / 100) }
        let rows = result.rows.filter { !$0.latencyCurve.isEmpty }
        let points = rows.flatMap { $0.latencyCurve }
        let offered = rows.first?.samples["offered"].map(median) ?? 0
        let most = points.map { place($0.percentile) }.max() ?? 1
        let ticks = [50, 90, 99, 99.9, 99.99, 99.999].filter { place($0) <= most }
        var chart = Chart(
            title: "Latency at a fixed rate",
            subtitle: "µs from when a message was to be sent, by percentile; \(figure(offered)) messages a second",
            x: Chart.Axis(least: place(50), most: most, ticks: ticks.map { (place($0), "\($0)".trimmed + " %") }),
            y: .logarithmic(over: points.map(\.microseconds)))
        for row in rows {
            chart.add(
                row.title, row.latencyCurve.map { (place($0.percentile), log10(max($0.microseconds, 0.001))) },
                color: Ink.line(of: row.server), hasDots: false)
        }
        return chart.drawn
    }
}

extension String {
    /// "50.0" as "50".
    fileprivate var trimmed: String {
        hasSuffix(".0") ? String(dropLast(2)) : self
    }
}

/// Curves over two axes, each with its name at its end.
struct Chart {
    struct Axis {
        let least: Double
        let most: Double
        let ticks: [(place: Double, label: String)]

        /// Powers of ten with 2 and 5 between, as far as the values go.
        static func logarithmic(over values: [Double]) -> Axis {
            let positive = values.filter { $0 > 0 }
            let least = log10((positive.min() ?? 1) * 0.85)
            let most = log10((positive.max() ?? 10) * 1.15)
            var ticks: [(Double, String)] = []
            for decade in Int(least.rounded(.down))...Int(most.rounded(.up)) {
                for factor in [1.0, 2, 5] {
                    let value = factor * pow(10, Double(decade))
                    if log10(value) >= least, log10(value) <= most { ticks.append((log10(value), figure(value))) }
                }
            }
            return Axis(least: least, most: most, ticks: ticks)
        }
    }

    let title: String
    let subtitle: String
    let x: Axis
    let y: Axis
    private var curves: [(title: String, points: [(Double, Double)], color: String, hasDots: Bool)] = []

    private let left = 64.0
    private let top = 70.0
    private let width = 560.0
    private let height = 330.0

    init(title: String, subtitle: String, x: Axis, y: Axis) {
        self.title = title
        self.subtitle = subtitle
        self.x = x
        self.y = y
    }

    mutating func add(_ title: String, _ points: [(Double, Double)], color: String, hasDots: Bool) {
        curves.append((title, points, color, hasDots))
    }

    private func place(_ point: (Double, Double)) -> (x: Double, y: Double) {
        (place(point.0, on: x, left, width), place(point.1, on: y, top + height, -height))
    }

    private func place(_ value: Double, on axis: Axis, _ start: Double, _ length: Double) -> Double {
        start + (value - axis.least) / max(axis.most - axis.least, .leastNormalMagnitude) * length
    }

    var drawn: String {
        var svg = SVG(width: 760, height: top + height + 48)
        svg.write(title, x: 20, y: 26, size: 15, isBold: true)
        svg.write(subtitle, x: 20, y: 46, fill: Ink.faint)
        for tick in y.ticks {
            let at = place(tick.place, on: y, top + height, -height)
            svg.line((left, at), (left + width, at), stroke: Ink.grid)
            svg.write(tick.label, x: left - 8, y: at + 4, size: 11, anchor: .end, fill: Ink.faint)
        }
        var free = 0.0
        for tick in x.ticks {
            let at = place(tick.place, on: x, left, width)
            svg.line((at, top + height), (at, top + height + 5), stroke: Ink.faint)
            // Where two would overlap the first one stays.
            let half = Double(tick.label.count) * 3.3
            guard at - half >= free else { continue }
            free = at + half + 6
            svg.write(tick.label, x: at, y: top + height + 20, size: 11, anchor: .middle, fill: Ink.faint)
        }
        svg.line((left, top + height), (left + width, top + height), stroke: Ink.faint)
        for curve in curves {
            let points = curve.points.map(place)
            svg.curve(points, stroke: curve.color, width: 2.4)
            if curve.hasDots { for point in points { svg.dot(x: point.x, y: point.y, radius: 3.6, fill: curve.color) } }
        }
        writeNames(into: &svg)
        return svg.text
    }

    /// Beside the end of each curve, moved apart where they would cover each other.
    private func writeNames(into svg: inout SVG) {
        var ends = curves.compactMap { curve in
            curve.points.last.map { (title: curve.title, color: curve.color, at: place($0)) }
        }.sorted { $0.at.y < $1.at.y }
        // One that ends early has other curves beside it.
        let isEarly = { (end: (title: String, color: String, at: (x: Double, y: Double))) in end.at.x < left + width - 1
        }
        for end in ends where isEarly(end) {
            svg.write(end.title, x: end.at.x + 4, y: end.at.y - 12, anchor: .end, fill: end.color, isBold: true)
        }
        ends.removeAll(where: isEarly)
        var free = top - 10
        var places = ends.map { end -> Double in
            free = max(end.at.y, free + 16)
            return free
        }
        // Whoever was pushed below the axis pushes back.
        var limit = top + height + 4
        for index in places.indices.reversed() {
            places[index] = min(places[index], limit)
            limit = places[index] - 16
        }
        for (end, y) in zip(ends, places) {
            svg.write(end.title, x: end.at.x + 10, y: y + 4, fill: end.color, isBold: true)
        }
    }
}
