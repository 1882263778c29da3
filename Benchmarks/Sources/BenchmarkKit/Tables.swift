/// A table as people read it in a terminal, and as a page shows it.
package struct Table {
    package let heading: [String]
    package var rows: [[String]] = []

    package init(heading: [String], rows: [[String]] = []) {
        self.heading = heading
        self.rows = rows
    }

    /// Columns of one width, the first flush left, the others flush right.
    package var text: String {
        let widths = heading.indices.map { column in
            ([heading] + rows).map { $0[column].count }.max() ?? 0
        }
        return ([heading] + rows).map { row in
            let cells = row.indices.map { padded(row[$0], to: widths[$0], before: $0 > 0) }
            return "  " + cells.joined(separator: "  ") + "\n"
        }.joined()
    }

    package var markdown: String {
        let rule = heading.indices.map { $0 == 0 ? "---" : "---:" }
        return ([heading, rule] + rows).map { "| " + $0.joined(separator: " | ") + " |\n" }.joined()
    }
}

extension WorkloadResult {
    /// One column is compared with the reference; several stand beside each other.
    package var table: Table {
        columns.count == 1 ? comparison(columns[0]) : overview
    }

    private func comparison(_ column: Column) -> Table {
        let other = rows.first?.title ?? ""
        var table = Table(heading: ["", column.heading, "min–max", "× \(other)", "by rounds"])
        for row in rows {
            if let failure = row.failure {
                table.rows.append([row.title, failure, "", "", ""])
                continue
            }
            let ratio = reference.flatMap { self.ratio(of: row.server, to: $0, column.id) }
            let samples = row.samples[column.id] ?? []
            table.rows.append([
                row.title, figure(median(samples)), spread(samples), figure(ratio?.ofMedians ?? .nan),
                figure(ratio?.paired ?? .nan),
            ])
        }
        return table
    }

    private var overview: Table {
        var table = Table(heading: [""] + columns.map(\.heading))
        for row in rows {
            let cells = columns.map { column in
                if let failure = row.failure { return column.id == columns[0].id ? failure : "" }
                let samples = row.samples[column.id] ?? []
                guard let least = samples.min(), let most = samples.max() else { return "–" }
                return least == most ? figure(least) : "\(figure(median(samples))) (\(spread(samples)))"
            }
            table.rows.append([row.title] + cells)
        }
        return table
    }

    private func spread(_ samples: [Double]) -> String {
        guard let least = samples.min(), let most = samples.max() else { return "–" }
        return "\(figure(least))–\(figure(most))"
    }
}

extension Column {
    package var heading: String {
        unit.isEmpty ? title : "\(title), \(unit)"
    }
}

extension Report {
    package var verdicts: [Budget.Verdict] {
        Budget.all.compactMap { $0.verdict(on: self) }
    }

    package var budgetTable: Table {
        var table = Table(heading: ["workload", "server", "budget", "measured", "min–max", "verdict"])
        table.rows = verdicts.map { verdict in
            [
                verdict.workloadTitle, verdict.serverTitle, verdict.demand, figure(verdict.measured),
                verdict.least == verdict.most ? "" : "\(figure(verdict.least))–\(figure(verdict.most))",
                verdict.isMet ? "met" : "not met",
            ]
        }
        return table
    }

    /// What the libuv engine costs as a part of what each peer costs: below 1 it is ahead.
    package var peerTable: Table {
        table(
            of: [("libuv", ""), ("libuv-64k", ", reading 64 KiB"), ("tls", "")], "cost of the libuv engine",
            beside: ["nio", "node", "uvloop", "go"])
    }

    /// The same of a group of two loops and peers with two threads.
    package var groupTable: Table {
        table(
            of: [("group-2", "")], "cost of a group of two loops", beside: ["c-libuv-2", "nio-2", "node-2", "go-2"])
    }

    private func table(of engines: [(id: String, addition: String)], _ title: String, beside ids: [String]) -> Table {
        let peers = servers.filter { $0.absence == nil && ids.contains($0.id) }
        var table = Table(heading: [title] + peers.map { "of \($0.title)'s" })
        for result in results where result.id != "latency" {
            for column in result.columns where column.id != "used" && !(result.id == "idle" && column.id == "cpu") {
                for (engine, addition) in engines {
                    let cells = peers.map { peer -> String in
                        guard let ratio = result.ratio(of: engine, to: peer.id, column.id) else { return "–" }
                        let cost = column.isBetterWhenHigher ? 1 / ratio.paired : ratio.paired
                        return cost <= 1 ? figure(cost) : "**\(figure(cost))**"
                    }
                    if cells.contains(where: { $0 != "–" }) { table.rows.append([result.title + addition] + cells) }
                }
            }
        }
        return table
    }

    /// The page `Benchmarks/Results.md`; the plots beside it are named as `Plots` writes them.
    package func markdown(plots: String?) -> String {
        var page = """
            # Results

            Written by `bench`; `Benchmarks/README.md` says how to read it and how to run it again.

            \(machine.sentence)

            \(rounds) rounds; the longest workloads take fewer. Servers in turns, each round in a new process. Medians,
            with the least and the most of the rounds. "by rounds" is the median of the ratios that each round gave;
            "×" the ratio of the medians.

            | server | version |
            |---|---|

            """
        for server in servers {
            page += "| \(server.title) | \(server.absence.map { "absent: \($0)" } ?? server.version ?? "") |\n"
        }
        if !verdicts.isEmpty {
            page += "\n## Budgets\n\nJudged by the median of the rounds' ratios; \"min–max\" is their spread.\n\n"
            page += budgetTable.markdown
        }
        if !peerTable.rows.isEmpty {
            page += "\n## Beside the peers\n\nBelow 1 the libuv engine is ahead; where not, the number is bold.\n\n"
            page += peerTable.markdown
        }
        if !groupTable.rows.isEmpty {
            page += "\n## A group of two loops beside peers with two threads\n\n"
            page += "All on one core, so this is what a second loop costs and not what it gains.\n\n"
            page += groupTable.markdown
        }
        for result in results {
            page += "\n## \(result.title)\n\n"
            for plot in plots == nil ? [] : Plots.names(of: result.id) {
                page += "![\(result.title)](\(plots ?? "")/\(plot))\n\n"
            }
            page += result.table.markdown
        }
        return page
    }
}

extension Machine {
    package var sentence: String {
        "\(cores) cores of \(processor), Linux \(kernel), libuv \(libuv), OpenSSL \(openSSL ?? "?"), "
            + "Swift \(swift), on \(date);\n"
            + "load averages before the run \(load), after it \(loadAfter ?? "?"), 1 to 2 of them its own."
    }
}
