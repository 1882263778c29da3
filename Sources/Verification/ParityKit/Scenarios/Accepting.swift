internal import CallbackModel
internal import Glibc

extension Scenario {
    private static let backlog = "listen(2): clients wait in the backlog"

    static let accepting: [Scenario] = [
        Scenario(
            "delayed_accept", source: backlog, clauses: [12], handler: .program(delayedAccept),
            peers: (0..<3).map { .echoed(.text("client \($0)")) },
            expected: (0..<3).map { .echo(of: .text("client \($0)")) }, notes: ["resumed"]),
        Scenario(
            "max_connections_wait", source: backlog, clauses: [12], options: limited(to: 1, .wait),
            handler: .script(Script(.echo)), peers: (0..<4).map { .echoed(.text("client \($0)")) },
            expected: (0..<4).map { .echo(of: .text("client \($0)")) }),
        Scenario(
            "max_connections_refuse", source: "contract: BeyondMaxConnections.refuse", clauses: [12],
            options: limited(to: 1, .refuse), handler: .script(Script(.echo)),
            peers: [
                Peer(.wait(.opened), .send("in"), .read(2), .waitFor(1, .left)),
                Peer(.waitFor(0, .opened), .connect, .readToEnd),
            ],
            expected: [
                Expectation(received: .exactly("in"), ended: true, closing: .peerClosed, peer: .exactly("in"), .unseen),
                Expectation(closing: .never, .end).with { $0.isOpened = false },
            ]),
        Scenario(
            "accept_burst", source: "contract, clause 12: so many a wake-up", clauses: [12], options: few,
            handler: .script(Script(.echo)), peers: (0..<40).map { .echoed(.text("client \($0)")) },
            expected: (0..<40).map { .echo(of: .text("client \($0)")) }),
        Scenario(
            "listener_closed_connection_stays", source: "contract: Listener.close()", clauses: [12, 16],
            handler: .script(Script(.echo, [.on(.received(2), .closeListener)])),
            peers: [Peer(.send("hi"), .read(2), .send("there"), .read(5), .halfClose, .readToEnd)],
            expected: [.echo(of: "hithere")]),
        Scenario(
            "listener_paused_from_a_callback", source: backlog, clauses: [9, 12],
            handler: .scripts([
                Script(.echo, [.on(.start, .pauseListener), .on(.received(2), .resumeListener)]), Script(.echo),
            ]),
            peers: [
                Peer(.waitFor(1, .connected), .send("go"), .read(2), .halfClose, .readToEnd),
                Peer(.waitFor(0, .opened), .connect, .send("second"), .read(6), .halfClose, .readToEnd),
            ],
            expected: [.echo(of: "go"), .echo(of: "second")]),
        Scenario(
            "drain_in_time", source: "contract: Listener.drain(within:)", clauses: [16],
            handler: .script(Script(.echo, [.on(.received(2), .drainListener(milliseconds: 9_000))])),
            peers: [Peer(.send("hi"), .read(2), .send("!"), .read(1), .halfClose, .readToEnd)],
            expected: [.echo(of: "hi!")], notes: ["drained: 1 finished, 0 forced"]),
        Scenario(
            "drain_deadline", source: "contract: Listener.drain(within:)", clauses: [16],
            handler: .script(Script(.echo, [.on(.received(2), .drainListener(milliseconds: 20))])),
            peers: [Peer(.send("hi"), .read(2), .readToEnd)],
            expected: [Expectation(received: .exactly("hi"), closing: .drainDeadline, peer: .exactly("hi"), .reset)],
            notes: ["drained: 0 finished, 1 forced"]),
        Scenario(
            "drain_backlog", source: "contract: Listener.drain(within:), clients in the backlog", clauses: [12, 16],
            handler: .scripts([
                Script(
                    .echo, [.on(.start, .pauseListener), .on(.received(2), .drainListener(milliseconds: 9_000))]),
                Script(.echo),
            ]),
            peers: [
                Peer(.waitFor(1, .connected), .send("go"), .read(2), .halfClose, .readToEnd),
                Peer(.waitFor(0, .opened), .connect, .send("second"), .read(6), .halfClose, .readToEnd),
            ],
            expected: [.echo(of: "go"), .echo(of: "second")], notes: ["drained: 2 finished, 0 forced"]),
        Scenario(
            "pipe_server_close", source: "unix(7): the file stays unless it is removed; contract: unixCleanUp",
            clauses: [12, 16], on: .unix, handler: .program(serverClose),
            notes: ["listening", "closed", "connect: ENOENT"]),
        Scenario(
            "flood_and_quiet", source: "contract, clause 14: a flood cannot starve the quiet", clauses: [14],
            handler: .program(floodAndQuiet),
            peers: [
                Peer(.flood(.pattern(50, count: 262_144), until: 1, .closed)),
                Peer(
                    steps: [.waitFor(0, .received(1_000_000))]
                        + (0..<20).flatMap { _ in [Peer.Step.send("PING\n"), .read(5)] } + [.halfClose, .readToEnd]),
            ],
            expected: [
                Expectation(received: .undetermined, ended: true, closing: .peerClosed, .unseen),
                .echo(of: .text(String(repeating: "PING\n", count: 20))),
            ]),
    ]

    private static func limited(
        to count: Int, _ beyond: Listener.Options.BeyondMaxConnections
    ) -> Listener.Options {
        var options = Listener.Options()
        options.maxConnections = count
        options.beyondMaxConnections = beyond
        return options
    }

    private static var few: Listener.Options {
        var options = Listener.Options()
        options.acceptsPerWakeup = 2
        return options
    }

    private static func delayedAccept(_ stage: Stage) throws(IOError) {
        try stage.listen { stage.play(Script(.echo), $0, as: stage.number(of: $0)) }
        stage.listener?.pause()
        // None is accepted before all wait in the backlog.
        stage.loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { timer in
            let areAllThere = stage.scenario.peers.indices.allSatisfy { stage.board.progress(of: $0).isConnected }
            guard areAllThere else { return }
            timer.cancel()
            stage.note("resumed")
            stage.listener?.resume()
        }
    }

    /// Who is flooded goes on only when there is more, so that an engine without a limit never comes to the quiet one.
    private static func floodAndQuiet(_ stage: Stage) throws(IOError) {
        try stage.listen { [unowned stage] connection in
            let number = stage.number(of: connection)
            guard number == 0 else { return stage.play(Script(.echo), connection, as: number) }
            connection.onData = { connection, _ in
                _ = awaitReadiness(
                    of: connection.descriptor, POLLIN, until: ContinuousClock.now + .milliseconds(100))
            }
        }
    }

    private static func serverClose(_ stage: Stage) throws(IOError) {
        let address = try SocketAddress.unix(path: stage.freshPath())
        let listener = try stage.loop.listen(on: address) { _ in stage.note("a connection") }
        stage.note("listening")
        listener.onClose = { _ in
            stage.callback("onClose") {
                stage.note("closed")
                guard let connection = try? stage.loop.connect(to: address) else { return stage.note("no socket") }
                connection.onClose = { _, reason in
                    if case .failed(let error) = reason { stage.note("connect: \(error.name)") }
                }
            }
        }
        listener.close()
        listener.close()
    }
}
