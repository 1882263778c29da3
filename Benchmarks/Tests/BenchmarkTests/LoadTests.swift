import BenchmarkKit
import Testing

/// A load that does not see a broken server would call it fast.
@Suite(.serialized, .timeLimit(.minutes(1)))
struct `A load checks what comes back` {
    init() {
        // Only the servers that never answer or never close wait for so long.
        Load.setPatience(seconds: 0.3)
    }

    @Test func `a correct server passes every load`() throws {
        let server = BrokenServer(.none)
        let load = try Load(port: server.port, connections: 1)
        #expect(try load.echo(size: 64, seconds: 0) == 1)
        #expect(try load.echo(size: 100_000, seconds: 0.01) > 0)
        let latencies = try load.echo(size: 64, perSecond: 10_000, messages: 50)
        #expect(latencies.count == 50 && latencies.allSatisfy { $0 > 0 })
        // With one connection, an echo is a fan-out.
        #expect(try load.fanOut(size: 64, seconds: 0) == 1)
        try load.close()
        #expect(try Load.connect(port: server.port, atATime: 1, size: 64, seconds: 0.01) > 0)
    }

    @Test(arguments: Fault.allCases.filter { $0 != .none })
    func `a broken server fails in the closed loop`(fault: Fault) {
        let server = BrokenServer(fault)
        #expect(throws: BenchmarkError.self) {
            let load = try Load(port: server.port, connections: 1)
            for _ in 0..<3 { _ = try load.echo(size: 64, seconds: 0) }
            try load.close()
        }
    }

    @Test(arguments: Fault.allCases.filter { $0 != .none })
    func `a broken server fails in the open loop`(fault: Fault) {
        let server = BrokenServer(fault)
        #expect(throws: BenchmarkError.self) {
            let load = try Load(port: server.port, connections: 1)
            _ = try load.echo(size: 64, perSecond: 1000, messages: 5)
            try load.close()
        }
    }

    @Test(arguments: Fault.allCases.filter { $0 != .none })
    func `a broken server fails in a fan-out`(fault: Fault) {
        let server = BrokenServer(fault)
        #expect(throws: BenchmarkError.self) {
            let load = try Load(port: server.port, connections: 1)
            for _ in 0..<3 { _ = try load.fanOut(size: 64, seconds: 0) }
            try load.close()
        }
    }

    @Test(arguments: [Fault.saysMoreAtTheEnd, .neverCloses])
    func `a broken end fails when each connection has one message`(fault: Fault) {
        let server = BrokenServer(fault)
        #expect(throws: BenchmarkError.self) {
            _ = try Load.connect(port: server.port, atATime: 1, size: 64, seconds: 0)
        }
    }

    @Test func `nobody there is an error`() throws {
        let port = BrokenServer(.none).port
        #expect(throws: BenchmarkError.self) { _ = try Load(port: port, connections: 1) }
    }
}

@Suite(.timeLimit(.minutes(1)))
struct `A server is a process` {
    private func start(_ script: String) throws -> ServerProcess {
        try ServerProcess("a script", command: ["sh", "-c", script], core: 0)
    }

    @Test func `it says where it listens, and ends with 0`() throws {
        let server = try start("trap 'exit 0' TERM; echo Listening on port 7; while :; do sleep 0.01; done")
        #expect(server.port == 7)
        #expect(try server.processorTime() > 0)
        #expect(try server.residentBytes() > 0)
        try server.stop()
    }

    @Test func `another status is an error`() throws {
        let server = try start("trap 'exit 3' TERM; echo Listening on port 7; while :; do sleep 0.01; done")
        #expect(throws: BenchmarkError.self) { try server.stop() }
    }

    @Test func `one that says something else is an error`() {
        #expect(throws: BenchmarkError.self) { _ = try start("echo No") }
        #expect(throws: BenchmarkError.self) { _ = try start("exit 1") }
    }

    @Test func `a program that is not there is an error`() {
        #expect(throws: BenchmarkError.self) {
            _ = try ServerProcess("nothing", command: ["/nowhere/to/be/found"], core: 0)
        }
    }
}
