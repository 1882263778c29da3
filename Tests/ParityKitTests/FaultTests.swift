import CallbackServer
import FaultKit
import Glibc
import TestSupport
import Testing

/// The parity command under faults, in a small size. `parity --faults` does the full one (CONTRIBUTING.md).
@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `Faults` {
    private func run(_ arguments: [String]) throws -> (status: ChildProcess.ExitStatus, output: String) {
        let child = try ChildProcess(try ChildProcess.pathOfBuiltProduct("parity"), arguments)
        let status = try child.waitForExit(timeLimit: .seconds(300))
        return (status, child.standardOutputText + child.standardErrorText)
    }

    @Test(arguments: Engine.allCases)
    func `that a kernel may show at any time change nothing`(engine: Engine) throws {
        let (status, output) = try run([
            "--faults", "soft", "--engine", engine.rawValue, "--random", "20", "--count", "5000",
        ])
        #expect(status == .exited(0), "\(output)")
        for kind in [
            "read short", "read EINTR", "read EAGAIN", "write short", "write EINTR", "write EAGAIN", "accept EINTR",
            "accept EAGAIN", "accept ECONNABORTED", "wait EINTR", "wait one-event",
        ] {
            #expect(output.contains(kind), "\(kind) was not injected: \(output)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `change no scenario's outcome`(engine: Engine) throws {
        let names = [
            "tcp_ping_pong", "pipe_ping_pong", "tcp_write_in_a_row", "tcp_shutdown_after_write", "tcp_rst",
            "saturated_and_drained", "accept_burst", "paused_and_hung_up",
        ]
        let (status, output) = try run(
            ["--faults", "soft", "--engine", engine.rawValue] + names.flatMap { ["--scenario", $0] })
        #expect(status == .exited(0), "\(output)")
    }

    @Test(.heavy, arguments: Engine.allCases, [(HardWorkload.echo, 4), (.unix, 2), (.clients, 2)])
    func `that end a call leave a prefix, one onClose and no descriptor`(
        engine: Engine, size: (workload: HardWorkload, count: Int)
    ) throws {
        let (status, output) = try run([
            "--faults", "hard", "--engine", engine.rawValue, "--workload", size.workload.rawValue, "--count",
            "\(size.count)",
        ])
        #expect(status == .exited(0), "\(output)")
    }

    @Test(arguments: [
        "hard call=fork errno=EMFILE at=1", "hard call=read errno=EPERM at=1", "hard call=read errno=EPIPE at=0",
        "hard call=read", "soft",
    ])
    func `must be known`(plan: String) throws {
        let (status, output) = try run(["--faults", "hard", "--engine", "poll", "--plan", plan])
        #expect(status == .exited(64) || status == .exited(1), "\(output)")
        #expect(output.contains(plan), "\(output)")
    }

    @Test func `need their library`() throws {
        let folder = try TemporaryDirectory()
        let program = try ChildProcess.pathOfBuiltProduct("parity")
        let copy = "\(folder.path)/parity"
        let copying = try ChildProcess("/bin/cp", [program, copy])
        #expect(try copying.waitForExit() == .exited(0))
        let child = try ChildProcess(copy, ["--faults", "soft"])
        #expect(try child.waitForExit() == .exited(1))
        #expect(child.standardErrorText.contains("libCFaults.so is missing: `swift build` makes it"))
    }

    @Test func `can be had by any program, and are counted`() throws {
        let folder = try TemporaryDirectory()
        let report = "\(folder.path)/report"
        let environment = [
            "LD_PRELOAD": try ChildProcess.pathInBuildFolder("libCFaults.so", "the library") { access($0, R_OK) == 0 },
            "FAULTS": "soft seed=5 every=2", "FAULTS_REPORT": report,
        ]
        let echo = try ChildProcess(
            try ChildProcess.pathOfBuiltProduct("echo"), ["--port", "0", "--quiet"], environment: environment)
        let line = try echo.readLine()
        let port = try #require(UInt16(line.split(separator: " ").last ?? ""), "\(line)")
        let client = try PlainClient(port: port)
        for number in 0..<50 {
            let text = "message \(number) \(String(repeating: "x", count: number * 100))\n"
            try client.send(text)
            #expect(try client.receive(exactly: text.utf8.count) == Array(text.utf8))
        }
        client.close()
        echo.signal(SIGTERM)
        #expect(try echo.waitForExit() == .exited(0))
        #expect(try contents(ofFile: report).contains("read short "))
    }
}

/// What catches nothing is worth nothing.
@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `Faults can fail` {
    private func run(_ mode: String, _ bug: String) throws -> (status: ChildProcess.ExitStatus, output: String) {
        let library = try ChildProcess.pathInBuildFolder("libCFaults.so", "the library") { access($0, R_OK) == 0 }
        let child = try ChildProcess(
            try ChildProcess.pathOfBuiltProduct("Breakable"), [mode, bug],
            environment: ["LD_PRELOAD": library, "FAULTS_THREADS": "armed"])
        return (try child.waitForExit(timeLimit: .seconds(200)), child.standardOutputText)
    }

    @Test(.heavy, arguments: ["soft", "hard"])
    func `but not without a reason`(mode: String) throws {
        let (status, output) = try run(mode, "whole")
        #expect(status == .exited(0), "\(output)")
    }

    @Test(arguments: [
        ("soft", "shortWriteIsTakenAsWhole"), ("soft", "shortWriteIsSentAgain"), ("soft", "interruptedReadIsFatal"),
        ("soft", "interruptedWriteIsFatal"), ("soft", "abortedClientEndsAccepting"), ("soft", "emptyReadIsDelivered"),
        ("hard", "writeErrorIsIgnored"), ("hard", "readErrorIsIgnored"), ("hard", "descriptorIsLeaked"),
    ])
    func `where an engine is broken`(mode: String, bug: String) throws {
        let (status, output) = try run(mode, bug)
        #expect(status == .exited(1), "\(output)")
    }
}
