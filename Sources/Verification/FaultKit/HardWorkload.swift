internal import CallbackModel
internal import Glibc
internal import ParityKit
internal import Synchronization

/// What runs while calls fail.
package enum HardWorkload: String, CaseIterable, Sendable {
    /// A server over TCP with three peers, which send and receive at once.
    case echo
    /// The same over a Unix socket.
    case unix
    /// Connections that the loop begins, each with a peer that sends back what it gets.
    case clients

    /// Several times what the kernel takes at once.
    private static let payload = Payload.pattern(6, count: 60_000)
    private static let peers = 3
    /// A write that cannot be sent for so long is over; so is a flush at the end.
    private static let patience: Duration = .milliseconds(100)

    /// What the run has to come to: an exact prefix for every peer, and all of it where the failure is one that passes.
    func scenario(_ tally: Tally, _ library: FaultLibrary, _ plan: FaultPlan) -> Scenario {
        var options = Listener.Options()
        options.connection.sendBufferSize = 4_096
        options.connection.timeouts.write = Self.patience
        options.connection.timeouts.close = Self.patience
        let connecting = options.connection
        let exchange = Peer.Step.exchange(Self.payload, receiving: Self.payload.count)
        let steps: [Peer.Step] = self == .clients ? [.echoToEnd] : [exchange, .halfClose, .readToEnd]
        let anything = Scenario.Expectation(closing: nil, nil).with { expectation in
            expectation.isOpened = nil
            expectation.received = .prefix(of: Self.payload)
            expectation.isEnded = nil
            expectation.completions = nil
            expectation.failures = nil
            expectation.isDrained = nil
            expectation.timeouts = nil
            expectation.peerReceived = plan.passes ? .exactly(Self.payload) : .prefix(of: Self.payload)
        }
        var scenario = Scenario(
            "hard faults", source: "contract, clauses 5, 10, 12 and 18", on: self == .unix ? .unix : .ipv4,
            options: options,
            handler: .program { (stage) throws(IOError) in
                if self == .clients {
                    try begin(stage, connecting, tally, library)
                } else {
                    listen(stage, tally, plan)
                }
            },
            peers: (0..<Self.peers).map { _ in Peer(steps: steps) },
            expected: (0..<Self.peers).map { _ in anything }, notes: nil)
        scenario.timeLimit = .seconds(5)
        return scenario
    }

    // MARK: The server

    private func listen(_ stage: Stage, _ tally: Tally, _ plan: FaultPlan) {
        do throws(IOError) {
            try stage.listen { connection in
                tally.opened(connection)
                connection.onData = { connection, bytes in
                    if connection.write(bytes) == .saturated { connection.pause() }
                }
                connection.onDrain = { $0.resume() }
            }
            stage.listener?.onError = { listener, _ in
                tally.failed()
                // It would try again for ever, with pauses.
                if plan.isForEver { listener.close() }
            }
        } catch {
            tally.failed()
        }
    }

    // MARK: The clients

    private func begin(
        _ stage: Stage, _ options: Connection.Options, _ tally: Tally, _ library: FaultLibrary
    ) throws(IOError) {
        for number in 0..<Self.peers {
            // The peers' own sockets are not to be hit.
            library.setArmed(false)
            _ = try stage.peerAddress(number)
            library.setArmed(true)
            var connecting = EventLoop.ConnectOptions()
            connecting.connection = options
            do throws(IOError) {
                try stage.connect(to: number, options: connecting) { connection in
                    tally.opened(connection)
                    let payload = Self.payload.bytes
                    connection.write(payload)
                    connection.end()
                }
            } catch {
                tally.failed()
                // Its peer waits for somebody.
                library.setArmed(false)
                _ = Glibc.close(try stage.connectedSocket(to: number))
                library.setArmed(true)
            }
        }
    }
}

extension FaultPlan {
    fileprivate var isForEver: Bool {
        if case .hard(_, _, _, true) = self { true } else { false }
    }

    /// Whether nobody loses anything: what is tried again, and a client that waits a little longer.
    fileprivate var passes: Bool {
        switch self {
        case .hard("write", "ENOBUFS", _, false), .hard("accept", "ENOMEM", _, false),
            .hard("accept", "EPROTO", _, false):
            true
        default: false
        }
    }
}

extension HardWorkload {
    /// What a run has counted.
    final class Tally: Sendable {
        private struct Counts {
            var opened = 0
            var closed = 0
            var failed = 0
            var bytesWritten: UInt64 = 0
        }

        private let counts = Mutex(Counts())

        func opened(_ connection: Connection) {
            counts.withLock { $0.opened += 1 }
            connection.onClose = { connection, _ in
                let written = connection.bytesWritten
                self.counts.withLock { counts in
                    counts.closed += 1
                    counts.bytesWritten += written
                }
            }
        }

        var bytesWritten: UInt64 { counts.withLock { $0.bytesWritten } }

        func failed() { counts.withLock { $0.failed += 1 } }

        /// What must not be.
        func failures(wasHit: Bool, _ plan: FaultPlan) -> [String] {
            let counts = counts.withLock { $0 }
            var failures: [String] = []
            if counts.opened != counts.closed {
                failures.append("\(counts.opened) connections opened, \(counts.closed) closed")
            }
            guard case .hard(let call, _, _, let isForEver) = plan, wasHit else { return failures }
            // A failed accept behind the last client is nobody's loss.
            let isAccepting = call == "accept" && isForEver && counts.opened < HardWorkload.peers
            if isAccepting || ["socket", "bind", "listen"].contains(call), counts.failed == 0 {
                failures.append("nobody was told of the failure")
            }
            return failures
        }
    }
}
