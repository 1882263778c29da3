/// Measures workloads: the servers in turns, each time in a new process.
///
/// In turns, since the machine may be busier in one minute than in the next; in a new process, since where its memory
/// happens to lie is part of what a server costs.
package struct Measurement {
    package let servers: [Server]
    package let size: Size
    package let cores: Cores
    /// Descriptors that a process may have open.
    package let descriptorLimit: Int
    /// What servers get that speak TLS.
    package let certificate: Certificate?
    /// Told before each sample: the workload, and how many of how many were taken.
    package var progress: (String, Int, Int) -> Void = { _, _, _ in }

    /// A server's own, and those of the test: listener, loop, standard streams.
    private static let spareDescriptors = 100

    package init(servers: [Server], size: Size, cores: Cores, descriptorLimit: Int, certificate: Certificate?) {
        self.servers = servers
        self.size = size
        self.cores = cores
        self.descriptorLimit = descriptorLimit
        self.certificate = certificate
    }

    package func measure(_ workload: Workload) -> WorkloadResult {
        let entrants = servers.filter { server in
            server.command(workload.mode) != nil && (workload.only?.contains(server.id) ?? true)
                && (server.workloads?.contains(workload.id) ?? true)
                && workload.descriptors < server.descriptorLimit
        }
        var result = WorkloadResult(id: workload.id, title: workload.title, columns: workload.columns)
        result.rows = entrants.map { WorkloadResult.Row(server: $0.id, title: $0.title) }
        if workload.descriptors + Self.spareDescriptors > descriptorLimit {
            for index in result.rows.indices {
                result.rows[index].failure = "needs \(workload.descriptors) descriptors; \(descriptorLimit) are allowed"
            }
            return result
        }
        var distributions = entrants.map { _ in Distribution() }
        let rounds = max(1, Int((Double(size.rounds) * workload.roundShare).rounded()))
        for round in 0..<rounds {
            for (place, index) in order(of: entrants.count, in: round).enumerated() {
                guard result.rows[index].failure == nil else { continue }
                progress(
                    "\(workload.title): \(entrants[index].title)", round * entrants.count + place,
                    rounds * entrants.count)
                do throws(BenchmarkError) {
                    let sample = try take(workload, of: entrants[index])
                    for (column, value) in sample.values {
                        result.rows[index].samples[column, default: []].append(value)
                    }
                    distributions[index].add(sample.latencies)
                } catch {
                    result.rows[index].failure = error.description
                }
            }
        }
        for index in result.rows.indices { result.rows[index].latencyCurve = distributions[index].curve }
        return result
    }

    /// There and back, so that nobody is always behind the same one.
    private func order(of count: Int, in round: Int) -> [Int] {
        round.isMultiple(of: 2) ? Array(0..<count) : (0..<count).reversed()
    }

    private func take(_ workload: Workload, of server: Server) throws(BenchmarkError) -> Sample {
        guard var command = server.command(workload.mode) else {
            throw BenchmarkError("\(server.title) has no mode \(workload.mode.rawValue)")
        }
        if workload.mode == .tls, let certificate { command += [certificate.path, certificate.keyPath] }
        let process = try ServerProcess(server.title, command: command, core: cores.server)
        let sample = try workload.sample(process, server)
        // A server that fails in the end has not done the work that was measured.
        try process.stop()
        return sample
    }
}
