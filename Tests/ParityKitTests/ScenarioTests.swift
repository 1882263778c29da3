import AsyncParity
import CallbackServer
import CallbackTLS
import ParityKit
import TLSParity
import Testing

extension Participant {
    /// An engine of this package.
    init(_ engine: Engine) {
        self.init(engine.rawValue) { options throws(IOError) in
            try EventLoop(engine: engine, options: options)
        }
    }

    static let engines = Engine.allCases.map { Participant($0) }
}

private func playedByTasks(_ name: String) -> Bool {
    Scenario.all.contains { $0.name == name && Form.async.obstacle(to: $0) == nil }
}

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `Every scenario on every engine` {
    private static let signalling = ["we_get_signals", "we_get_signals_one_shot", "signals_while_echoing"]

    @Test(arguments: Scenario.all.map(\.name).filter { !signalling.contains($0) })
    func `comes to what is expected`(name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let report = Parity.run(scenario, on: Participant.engines)
        #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
        #expect(report.outcomes.count == Engine.allCases.count)
    }

    @Test(arguments: Scenario.all.map(\.name).filter { !signalling.contains($0) })
    func `comes to the same with a task in each callback`(name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let report = Parity.run(scenario, on: Participant.engines.map { $0.playing(.tasks) })
        #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
    }

    /// Beside one loop, so that what the expectation leaves open is compared too.
    @Test(arguments: EventLoop.Group.Distribution.allCases, Scenario.all.map(\.name))
    func `comes to the same on a group of two loops`(
        distribution: EventLoop.Group.Distribution, name: String
    ) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let form = Form.group(distribution)
        guard form.obstacle(to: scenario) == nil else { return }
        let participants = [Participant(.epoll)] + Participant.engines.map { $0.playing(form) }
        let report = Parity.run(scenario, on: participants)
        #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
    }

    /// With `for try await` over a connection's bytes, and `send`.
    @Test(arguments: Scenario.all.map(\.name).filter(playedByTasks))
    func `comes to the same in the asynchronous layer`(name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let participants = [Participant(.epoll)] + Participant.engines.map { $0.playing(.async) }
        let report = Parity.run(scenario, on: participants)
        #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
    }

    @Test func `fits the asynchronous layer, where no callback is needed`() {
        #expect(Scenario.all.map(\.name).filter(playedByTasks).count >= 38)
    }

    @Test func `fits a group, where one connection does not need another`() {
        let fitting = { (distribution: EventLoop.Group.Distribution) in
            Scenario.all.count { Form.group(distribution).obstacle(to: $0) == nil }
        }
        #expect(fitting(.evenly) >= 60 && fitting(.shared) == fitting(.evenly))
        #expect(fitting(.byKernel) >= 50)
    }

    @Test(arguments: TLS.Version.allCases, Scenario.all.map(\.name).filter { !signalling.contains($0) })
    func `comes to the same over TLS`(version: TLS.Version, name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let form = try Form.tls(version)
        guard form.obstacle(to: scenario) == nil else { return }
        let report = Parity.run(scenario.overTLS, on: Participant.engines.map { $0.playing(form) })
        #expect(report.isEqual, "\(report.divergences) \(scenario.differenceOverTLS ?? scenario.source)")
    }

    @Test func `fits TLS, where a peer is met, and differs by name`() throws {
        let form = try Form.tls()
        #expect(Scenario.all.count { form.obstacle(to: $0) == nil } >= 106)
        #expect(Scenario.all.count { !$0.peers.isEmpty && form.obstacle(to: $0) != nil } <= 2)
        #expect(Scenario.all.count { $0.differenceOverTLS != nil } <= 6)
    }

    /// One at a time: libuv and the reference engines take a signal's handler from each other.
    @Test func `signals come to what is expected`() throws {
        let form = try Form.tls()
        for scenario in Scenario.all where Self.signalling.contains(scenario.name) {
            let report = Parity.run(scenario, on: Participant.engines)
            #expect(report.isEqual, "\(report.divergences) \(scenario.source)")
            guard form.obstacle(to: scenario) == nil else { continue }
            let secured = Parity.run(scenario.overTLS, on: Participant.engines.map { $0.playing(form) })
            #expect(secured.isEqual, "\(secured.divergences) \(scenario.source)")
        }
    }
}

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `A form` {
    @Test func `that cannot play a scenario says so, and a run of it is a violation`() throws {
        let scenario = try #require(Scenario.all.first { $0.name == "two_in_turn" })
        for form in [Form.async, .group(.shared)] {
            let obstacle = try #require(form.obstacle(to: scenario))
            let report = Parity.run(scenario, on: [Participant(.libuv).playing(form)])
            #expect(report.divergences.contains { $0.reference == nil && $0.text.hasSuffix(obstacle) })
        }
    }
}

@Suite struct `The catalogue` {
    @Test func `has no name twice`() {
        #expect(Set(Scenario.all.map(\.name)).count == Scenario.all.count)
    }

    /// libuv's own suite, as far as it concerns streams, timers, signals and loops on Linux (libuv, test/test-list.h).
    @Test(arguments: [
        "tcp_ping_pong", "tcp_ping_pong_vec", "tcp6_ping_pong", "tcp6_ping_pong_vec", "pipe_ping_pong",
        "pipe_ping_pong_vec", "tcp_writealot", "tcp_write_in_a_row", "tcp_try_write", "tcp_shutdown_after_write",
        "shutdown_eof", "shutdown_simultaneous", "not_writable_after_shutdown", "tcp_rst",
        "tcp_close_after_read_timeout", "tcp_oob", "tcp_read_stop", "tcp_write_ready", "tcp_connect_error_after_write",
        "tcp_write_after_connect", "connection_fail", "connection_fail_doesnt_auto_close", "tcp_close_while_connecting",
        "tcp_connect_timeout", "tcp_local_connect_timeout", "tcp_bind_error_addrinuse_listen",
        "tcp_bind_error_addrnotavail_2", "tcp_bind_error_inval", "tcp_bind_or_listen_error_after_close",
        "tcp_bind_writable_flags", "tcp_open_connected", "tcp_open_twice", "tcp_flags", "delayed_accept",
        "getsockname_tcp", "pipe_bind_error_addrinuse", "pipe_connect_bad_name", "pipe_connect_to_file",
        "pipe_connect_multiple", "pipe_server_close", "poll_duplex", "poll_unidirectional", "poll_close",
        "poll_multiple_handles", "timer", "timer_order", "timer_early_check", "timer_again", "timer_start_twice",
        "timer_huge_timeout", "we_get_signals", "we_get_signals_one_shot", "async", "loop_stop", "loop_alive",
        "loop_close", "run_once", "run_nowait", "close_order", "active",
    ])
    func `has what libuv's suite has`(name: String) {
        #expect(Scenario.all.contains { $0.name == name })
    }

    @Test(arguments: 1...18)
    func `has a scenario for the clause`(clause: Int) {
        #expect(Scenario.all.contains { $0.clauses.contains(clause) })
    }

    @Test func `tells where each expectation is from`() {
        for scenario in Scenario.all { #expect(!scenario.source.isEmpty, "\(scenario.name)") }
    }
}
