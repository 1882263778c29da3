internal import CallbackModel
internal import Glibc
internal import ParityKit
internal import Synchronization

/// Echo traffic over TCP and Unix sockets, of bytes and of frames, until enough faults have been met. Every byte is
/// checked.
struct BulkEcho {
    let participant: Participant
    let library: FaultLibrary
    let plan: FaultPlan
    let seed: UInt64
    /// `FaultLibrary.injected` at which the peers finish.
    let target: UInt64

    /// Two for each form. Enough of them that the loop always finds something to do.
    private static let peers = 2 * BulkForm.allCases.count

    /// What the threads have found.
    struct Findings {
        var bytes: UInt64 = 0
        var lost: UInt64 = 0
        var longestStall: Duration = .zero
        var failures: [String] = []
    }

    /// Shared by the threads of a run.
    final class State: Sendable {
        let findings = Mutex(Findings())
        let peersLeft = Atomic(BulkEcho.peers)

        func fail(_ text: String) {
            findings.withLock { $0.failures.append(text) }
        }
    }

    func run(_ progress: @escaping @Sendable (String) -> Void) -> Findings {
        let state = State()
        // A thread of its own, since the calls of this one are not to be hit.
        startThread { [self] in serve(state, progress) }.join()
        return state.findings.withLock { $0 }
    }

    private func serve(_ state: State, _ progress: @escaping @Sendable (String) -> Void) {
        do throws(IOError) {
            let loop = try library.hitting(participant, plan).makeLoop(EventLoop.Options())
            let path = "/tmp/parity-bulk-\(getpid())"
            // The kernel's own short writes; with TCP it would wait for timers of its own.
            var tight = Listener.Options()
            tight.connection.sendBufferSize = 8_192
            var listeners: [Listener] = []
            for form in BulkForm.allCases {
                listeners += [
                    try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { form.echo($0) },
                    try loop.listen(on: .unix(path: "\(path)-\(form)"), options: tight) { form.echo($0) },
                ]
            }
            for listener in listeners {
                listener.onError = { _, error in state.fail("the listener failed: \(error)") }
            }
            let peers = startPeers(listeners.map(\.localAddress), state, progress)
            defer { for peer in peers { peer.join() } }
            let timer = loop.schedule(after: Self.interval, repeating: Self.interval) { timer in
                guard state.peersLeft.load(ordering: .acquiring) == 0 else { return }
                timer.cancel()
                for listener in listeners { listener.close() }
            }
            defer { timer.cancel() }
            try loop.run()
        } catch {
            state.fail("the loop failed: \(error)")
        }
    }

    /// How often the loop looks whether its peers have finished.
    private static let interval: Duration = .milliseconds(20)

    private func startPeers(
        _ addresses: [SocketAddress], _ state: State, _ progress: @escaping @Sendable (String) -> Void
    ) -> [StartedThread] {
        (0..<Self.peers).map { number in
            let peer = BulkPeer(
                number: number, address: addresses[number % addresses.count],
                form: BulkForm.allCases[number / 2 % BulkForm.allCases.count], seed: seed, state: state,
                isEnough: { [library, target] in library.injected >= target }, progress: progress)
            return startThread {
                peer.run()
                state.peersLeft.subtract(1, ordering: .acquiringAndReleasing)
            }
        }
    }
}
