import CallbackServer
import Glibc
import TestSupport
import Testing

/// select(2) has room for descriptors below 1,024 only. In a process of its own, since the table of descriptors
/// is the process's.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The select engine with 1,100 descriptors open` {
    @Test func `turns clients away by name, serves the old ones, and recovers`() async {
        await #expect(processExitsWith: .success) {
            let crowd = try DescriptorCrowd()
            let stage = try Stage(.select, serve: echo)
            var shed: [Listener.Shed.Cause: Int] = [:]
            stage.listener.onShed = { shed[$1.cause, default: 0] += $1.count }
            let old = try (0..<3).map { _ in try PlainClient(port: stage.port) }
            try stage.run(until: { stage.listener.connectionCount == 3 })

            try crowd.open()
            let late = try (0..<40).map { _ in try PlainClient(port: stage.port) }
            try stage.run(until: { shed[.engineLimit] == 40 })
            #expect(shed == [.engineLimit: 40])
            for client in late { #expect(try client.receiveUntilOver().bytes.isEmpty) }
            try serve(old, on: stage)

            late.forEach { $0.close() }
            crowd.close()
            let again = try PlainClient(port: stage.port)
            try stage.run(until: { stage.listener.connectionCount == 4 })
            try serve(old + [again], on: stage)
            #expect(shed == [.engineLimit: 40])
        }
    }

    @Test func `refuses a listener, a client and another loop by name, and is as it was`() async {
        await #expect(processExitsWith: .success) {
            let crowd = try DescriptorCrowd()
            let loop = try EventLoop(engine: .select)
            try crowd.open()
            let before = try openDescriptors().count
            let refusals: [() throws -> Void] = [
                { _ = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in } },
                { _ = try loop.connect(to: .ipv4("127.0.0.1", port: 9)) },
                { _ = try EventLoop(engine: .select) },
            ]
            for refused in refusals {
                let error = #expect(throws: IOError.self) { try refused() }
                #expect(error?.call == "select" && error?.name == "EMFILE")
                #expect(error?.description.contains("is not below FD_SETSIZE, 1024") == true)
            }
            #expect(try openDescriptors().count == before)
            #expect(!loop.isAlive)
            crowd.close()
            for refused in refusals { try refused() }
        }
    }
}

/// One message each, back and forth.
private func serve(_ clients: [PlainClient], on stage: Stage) throws {
    let served = onThread {
        for client in clients {
            try client.send("hello")
            #expect(try client.receive(exactly: 5) == Array("hello".utf8))
        }
    }
    try stage.run(until: { served.isFinished })
    try served.value()
}

/// Descriptors that only take up numbers.
private final class DescriptorCrowd {
    private var descriptors: [Int32] = []

    /// Room for them and for the test's own.
    init() throws {
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        getrlimit(resource, &limit)
        limit.rlim_cur = min(4_096, limit.rlim_max)
        try #require(setrlimit(resource, &limit) == 0 && limit.rlim_cur == 4_096)
    }

    func open() throws { descriptors = try takeDescriptors(below: 1_100) }

    func close() {
        for descriptor in descriptors { Glibc.close(descriptor) }
        descriptors = []
    }
}
