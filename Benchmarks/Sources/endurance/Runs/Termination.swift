import Foundation

extension Run {
    static let termination = Run(
        name: "termination", summary: "SIGTERM at a random moment under load: clients finish, and the status is 0"
    ) { trial in
        let rounds = trial.size(50, small: 3)
        trial.load = "\(rounds) times SIGTERM"
        var random = trial.random(0)
        var connections = 0
        for round in 0..<rounds {
            trial.progress("round \(round) of \(rounds)")
            let server = try trial.server()
            let port = server.port
            let workers = (0..<visitors).map { number in
                let random = trial.random(UInt64(1 + round * visitors + number))
                return Worker { Visits(port, random) }
            }
            pause(.microseconds(Int.random(in: 1_000...200_000, using: &random)))
            server.terminate()
            let (counts, status) = try server.finish()
            trial.expect(status == 0, "round \(round): the exit status is \(status)")
            let visits = workers.map { $0.wait() }
            for failure in visits.compactMap(\.failure) { try trial.lose("round \(round): \(failure)") }
            let served = visits.reduce(0) { $0 + $1.count }
            connections += served
            trial.expect(
                counts?.closed == ["peerClosed": served + Trial.warmUps],
                "round \(round): \(served) were served, and the server tells \(counts?.closed ?? [:])")
        }
        trial.tell("\(connections.grouped) connections served in whole")
    }

    private static let visitors = 4

    /// A client that comes again and again until nobody listens any more.
    struct Visits: Sendable {
        private(set) var count = 0
        private(set) var failure: String?

        /// So many messages on one connection, of so many bytes each.
        private static let messages = 1...20
        private static let sizes = 1...5_000

        init(_ port: UInt16, _ random: SplitMix) {
            var random = random
            while failure == nil, visit(port, &random) {}
        }

        /// Whether the server is still there.
        private mutating func visit(_ port: UInt16, _ random: inout SplitMix) -> Bool {
            let pattern = Pattern(seed: random.next())
            var position = 0
            do {
                let client = try Client(port: port)
                for _ in 0..<Int.random(in: Self.messages, using: &random) {
                    let count = Int.random(in: Self.sizes, using: &random)
                    let payload = ArraySlice(pattern.bytes(at: position, count: count))
                    try client.send(payload)
                    try client.receive(payload)
                    position += count
                }
                try client.halfClose()
                try client.receiveEnd()
                count += 1
                return true
            } catch let error as ClientError where position == 0 && Self.isTurnedAway(error) {
                // It was in the backlog when the listener closed, or came later. Had the handler seen it, the server's
                // count would be higher than the clients'.
                return false
            } catch {
                failure = "after \(position) bytes: \(error)"
                return false
            }
        }

        private static func isTurnedAway(_ error: ClientError) -> Bool {
            [ECONNREFUSED, ECONNRESET, EPIPE].contains(error.errno)
        }
    }
}
