import CallbackServer
import Glibc
import TestSupport
import Testing

/// `echo`, stopped and continued, as by a debugger or an overcommitted machine (SIGSTOP, signal(7)).
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A stopped server` {
    @Test func `closes no client that has sent meanwhile, and all that are silent`() throws {
        // Beside each other, since each stands for longer than the time-out.
        let runs = Engine.allCases.map { engine in
            onThread { try Run(engine).faults() }
        }
        for (engine, run) in zip(Engine.allCases, runs) {
            #expect(try run.value(timeLimit: .seconds(60)) == [], "\(engine)")
        }
    }

    private final class Run {
        private static let idle = 2
        private let echo: EchoProcess
        private var honest: [PlainClient] = []
        private var silent: [PlainClient] = []

        init(_ engine: Engine) throws {
            echo = try EchoProcess(engine, ["--quiet", "--idle-timeout", "\(Self.idle)"])
        }

        func faults() throws -> [String] {
            let begin = ContinuousClock.now
            do {
                try connect()
            } catch {
                // A machine so slow that the time-outs have passed shows nothing here.
                if .now - begin > .seconds(Self.idle) { return [] }
                throw error
            }
            if .now - begin > .seconds(Self.idle) { return [] }
            for client in honest { try client.send("y") }
            // Longer than the time-out: to wait is what this test is about.
            observe(for: .seconds(Self.idle) + .milliseconds(500))
            echo.child.signal(SIGCONT)
            let answers = honest.map { client in (try? client.receiveSome(max: 1)) ?? [] }
            for client in silent { try client.expectEnd() }
            for client in honest { client.close() }
            try echo.stop()
            let cutOff = answers.count { $0 != Array("y".utf8) }
            return cutOff == 0 ? [] : ["\(cutOff) clients were cut off"]
        }

        /// All clients, each of which has had an answer, and then the server stands.
        private func connect() throws {
            for _ in 0..<250 {
                honest.append(try echo.client())
                silent.append(try echo.client())
            }
            for client in honest + silent { try client.send("x") }
            for client in honest + silent { _ = try client.receive(exactly: 1) }
            echo.child.signal(SIGSTOP)
            try waitUntilStopped()
        }

        private func waitUntilStopped() throws {
            let deadline = ContinuousClock.now + .seconds(10)
            // The third field of /proc/PID/stat, behind the name in parentheses (proc(5)).
            while try !contents(ofFile: "/proc/\(echo.child.pid)/stat").contains(") T ") {
                guard .now < deadline else {
                    throw PeerError(call: "kill", cause: .timeLimit(.seconds(10)), waitedFor: "the server to stop")
                }
                sched_yield()
            }
        }
    }
}
