import CallbackServer
import ParityKit
import TestSupport
import Testing

/// The program, as a process.
@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `The parity command` {
    private func start(_ arguments: String...) throws -> ChildProcess {
        try ChildProcess(try ChildProcess.pathOfBuiltProduct("parity"), arguments)
    }

    @Test func `prints a row for each scenario, a column for each engine, and ends with 0`() throws {
        let child = try start("--scenario", "tcp_ping_pong", "--scenario", "tcp_rst")
        let heading = try child.readLine()
        #expect(heading.split(separator: " ") == ["scenario", "libuv", "epoll", "poll", "select"])
        for name in ["tcp_ping_pong", "tcp_rst"] {
            let row = try child.readLine()
            #expect(row.hasPrefix(name))
            #expect(row.matches(of: /\d+ ms/).count == Engine.allCases.count)
        }
        #expect(try child.readLine() == "")
        #expect(try child.readLine().hasPrefix("2 scenarios on 4 engines, 0 with a divergence, in "))
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `plays random scenarios from a seed`() throws {
        let child = try start("--random", "5", "--seed", "7", "--engine", "libuv", "--engine", "epoll")
        #expect(try child.readLine().hasPrefix("5 random scenarios from seed 7 on 2 engines, no divergence, in "))
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `plays in other forms beside callbacks, and says what a form cannot`() throws {
        let child = try start("--form", "evenly", "--scenario", "two_in_turn", "--scenario", "tcp_rst")
        let heading = try child.readLine()
        #expect(heading.hasPrefix("scenario "))
        for engine in Engine.allCases { #expect(heading.contains(" \(engine) evenly")) }
        #expect(heading.contains(" libuv callbacks "))
        let rows = [try child.readLine(), try child.readLine()]
        #expect(rows.contains { $0.hasPrefix("tcp_rst ") && $0.matches(of: /\d+ ms/).count == 5 })
        #expect(
            rows.contains { $0.hasPrefix("two_in_turn ") && $0.hasSuffix("left out: a connection acts on another one") }
        )
        #expect(try child.readLine() == "")
        #expect(try child.readLine().hasPrefix("1 scenarios on 4 engines, 0 with a divergence, 1 left out, in "))
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test(arguments: ["tasks", "shared", "byKernel", "async"])
    func `plays in every form`(form: String) throws {
        let child = try start("--form", form, "--scenario", "tcp_ping_pong", "--engine", "epoll")
        #expect(
            try child.readLine().split(separator: " ") == ["scenario", "epoll", "callbacks", "epoll", Substring(form)])
        #expect(try child.readLine().matches(of: /\d+ ms/).count == 2)
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test(arguments: ["tls", "tls12"])
    func `plays over TLS, and says what cannot be played so`(flag: String) throws {
        let child = try start("--\(flag)", "--scenario", "tcp_ping_pong", "--scenario", "timer", "--engine", "epoll")
        #expect(try child.readLine().split(separator: " ") == ["scenario", "epoll", Substring(flag)])
        let rows = [try child.readLine(), try child.readLine()]
        #expect(rows.contains { $0.hasPrefix("tcp_ping_pong ") && $0.hasSuffix(" ms") || $0.contains(" ms ") })
        #expect(rows.contains { $0.hasPrefix("timer ") && $0.contains("left out: it has no peer") })
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `prints JSON when asked`() throws {
        let child = try start("--json", "--scenario", "tcp_ping_pong", "--engine", "poll")
        let line = try child.readLine()
        #expect(line.hasPrefix(#"{"equal":true,"milliseconds":"#))
        #expect(line.contains(#""leftOut":[],"scenarios":[{"scenario":"tcp_ping_pong","outcomes":[{"engine":"poll","#))
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `lists every scenario with its source`() throws {
        let child = try start("--list")
        for scenario in Scenario.all {
            let line = try child.readLine()
            #expect(line.hasPrefix(scenario.name + "  ["))
            #expect(line.hasSuffix(scenario.source))
        }
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `resolves two hundred hosts on every engine`() throws {
        #expect(HostComparison.cases.count == 200)
        #expect(Set(HostComparison.cases.map { Array($0.host.utf8) }).count == HostComparison.cases.count, "each once")
        let child = try start("--hosts")
        let line = try child.readLine(timeLimit: .seconds(120))
        #expect(line.hasPrefix("\(HostComparison.cases.count) hosts on 4 engines, 0 with a divergence, in "))
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `shows a host that comes to something else, on every engine`() throws {
        let cases = [HostCase("127.0.0.1", .number("127.0.0.2:7")), HostCase("::1", .number("[::1]:7"))]
        let participants = [Engine.libuv, .select].map { Participant($0) }
        let differences = try HostComparison.run(cases, on: participants)
        #expect(differences.map(\.host) == ["127.0.0.1"] && differences.first?.expected == "127.0.0.2:7")
        #expect(differences.first?.outcomes.map(\.participant) == ["libuv", "select"])
        #expect(differences.first?.outcomes.map(\.outcome) == ["127.0.0.1:7", "127.0.0.1:7"])
    }

    @Test(arguments: [
        ["--hosts", "--random", "3"], ["--hosts", "--json"], ["--scenario", "no_such"], ["--engine", "kqueue"],
        ["--random", "0"], ["--random", "many"], ["--seed", "-1"], ["--no-such-option"],
        ["--form", "none"], ["--form", "tasks", "--hosts"], ["--form", "evenly", "--calls", "3"],
        ["--tls", "--hosts"], ["--tls", "--form", "tasks"], ["--tls", "--tls12"],
    ])
    func `ends with 64 for bad arguments`(arguments: [String]) throws {
        let child = try ChildProcess(try ChildProcess.pathOfBuiltProduct("parity"), arguments)
        #expect(try child.waitForExit() == .exited(64))
    }
}
