import BenchmarkKit
import Foundation
import FoundationXML
import Testing

@Suite struct `A report` {
    private func result(
        _ id: String, _ columns: [String], _ rows: [(String, [String: [Double]])], higher: Bool = false
    ) -> WorkloadResult {
        WorkloadResult(
            id: id, title: "Title <of> \(id)",
            columns: columns.map { Column(id: $0, title: $0, unit: "µs", isBetterWhenHigher: higher) },
            rows: rows.map { WorkloadResult.Row(server: $0.0, title: $0.0 + " & more", samples: $0.1) })
    }

    private var report: Report {
        let machine = Machine(
            processor: "P", cores: 2, kernel: "6", libuv: "1.44.2", swift: "6.3", date: "2026-01-01", load: "0")
        var report = Report(machine: machine, size: .smoke, servers: [])
        report.results = [
            result(
                "echo-64-50", ["cpu"],
                [
                    ("c-libuv", ["cpu": [10, 20, 30]]), ("c-epoll", ["cpu": [10, 10, 10]]),
                    ("libuv", ["cpu": [10.2, 20.4, 60]]),
                ]),
            result("connect", ["rate"], [("c-libuv", ["rate": [100]]), ("libuv", ["rate": [94]])], higher: true),
            result("neighbours", ["0", "15000"], [("libuv", ["0": [5], "15000": [5.4]]), ("poll", ["0": [6]])]),
            result("latency", ["p99", "offered"], [("c-libuv", ["p99": [50], "offered": [1000]])]),
        ]
        report.results[3].rows[0].latencyCurve = Distribution([1000, 2000, 3000, 50_000]).curve
        return report
    }

    @Test func `a ratio is that of the medians, and the median of the rounds'`() throws {
        let ratio = try #require(report.results[0].ratio(of: "libuv", to: "c-libuv", "cpu"))
        #expect(abs(ratio.ofMedians - 1.02) < 1e-9)
        #expect(abs(ratio.paired - 1.02) < 1e-9)
        #expect(Ratio([1, 2, 9], to: [1, 1, 3]).paired == 2)
        #expect(Ratio([1, 2, 9], to: [1, 1, 3]).ofMedians == 2)
    }

    @Test func `a budget is judged by the rounds' ratios`() {
        let verdicts = report.verdicts
        #expect(verdicts.map(\.isMet) == [true, false, false, true])
        #expect(verdicts[0].demand == "≤ 1.03 × c-libuv & more")
        #expect(verdicts[0].least == 1.02 && verdicts[0].most == 2)
        #expect(verdicts[2].measured == 0.94)
        #expect(abs(verdicts[3].measured - 1.08) < 1e-9)
    }

    @Test func `a budget on what was not measured is not judged`() {
        var report = report
        report.results = []
        #expect(report.verdicts.isEmpty)
    }

    @Test func `plots are well-formed, whatever a title has in it`() {
        let plots = Plots.all(of: report)
        #expect(Set(plots.keys) == ["echo-64-50.svg", "connect.svg", "neighbours.svg", "latency.svg"])
        for (name, text) in plots {
            let parser = XMLParser(data: Data(text.utf8))
            #expect(parser.parse(), "\(name): \(parser.parserError as Any)")
        }
    }

    @Test func `the JSON file has all of it`() throws {
        let read = try JSONDecoder().decode(Report.self, from: JSONEncoder().encode(report))
        #expect(read.markdown(plots: "p") == report.markdown(plots: "p"))
    }

    @Test func `what the script of the budgets prints is understood`() {
        let results = RoundTrips.parse(
            """
            64-byte round trip       instructions   of C libuv  allocations
            C libuv                         693.9        1.000        0.000
            libuv engine                    759.0        1.094        0.001
            libuv engine, async            9000.0       12.971        1.000

            64 bytes over TLS        instructions     of C TLS  allocations
            C TLS                         14648.7        1.000        6.000
            libuv engine, TLS             14700.0        1.004        6.000

            40-byte frame            instructions  allocations
            data                              8.8            0
            over budget: libuv engine: 0.001 allocations in 2000 round trips; the budget is 0
            """)
        #expect(results.map(\.id) == ["round-trip", "tls-round-trip"])
        #expect(results[0].rows.map(\.server) == ["c-libuv", "libuv", "async"])
        #expect(results[0].samples("libuv", "instructions") == [759])
        #expect(results[0].samples("libuv", "allocations") == [0.001])
        #expect(results[1].rows.map(\.server) == ["c-tls", "tls"])
        #expect(results[1].samples("tls", "instructions") == [14700])
    }

    @Test func `a failure is told by name`() {
        var report = report
        report.results[0].rows[1].failure = "a byte that nobody has sent"
        #expect(report.failures == ["Title <of> echo-64-50: c-epoll & more: a byte that nobody has sent"])
    }

    @Test(arguments: [
        (0, "0"), (0.0316, "0.032"), (1.2345, "1.23"), (9.999, "10.00"), (12.34, "12.3"), (123.4, "123"),
        (-1234567.8, "-1,234,568"), (3, "3"), (Double.nan, "–"),
    ])
    func `a figure has the digits that count`(value: Double, text: String) {
        #expect(figure(value) == text)
    }

    @Test func `percentiles are of the values themselves`() {
        let distribution = Distribution((1...1000).map { Int64($0) * 1000 })
        #expect(abs(distribution.microseconds(at: 50) - 500) < 1)
        #expect(abs(distribution.microseconds(at: 99) - 990) < 2)
        #expect(Distribution().isEmpty && Distribution().curve.isEmpty)
    }

    @Test func `the usual p99 does not tell of a pause that the whole one tells of`() {
        let usual = [Int64](repeating: 10_000, count: 98) + [20_000, 20_000]
        let spoilt = [Int64](repeating: 5_000_000, count: 100)
        let latencies = usual + spoilt + usual + usual + spoilt + usual + usual
        #expect(usualP99(of: latencies, window: 100).rounded() == 20)
        #expect(Distribution(latencies).microseconds(at: 99) > 4_900)
    }

    @Test func `the median of an even number is between the two`() {
        #expect(median([4, 1, 3, 2]) == 2.5)
        #expect(median([5]) == 5)
        #expect(median([]).isNaN)
    }
}
