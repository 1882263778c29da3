import CallbackServer
import Glibc
import TestSupport
import Testing

/// What accept(2) refuses. The errors are the kernel's own: a limit of descriptors (RLIMIT_NOFILE, getrlimit(2)),
/// and EINVAL of a socket that listens no more.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 12: accept errors` {
    @Test(arguments: Engine.allCases)
    func `at the descriptor limit clients are turned away at once, counted exactly`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let stage = try Stage(engine, serve: echo)
            var shed = 0
            stage.listener.onShed = { _, these in
                #expect(these.cause == .descriptorLimit)
                shed += these.count
            }
            var errors: [IOError] = []
            stage.listener.onError = { errors.append($1) }
            for _ in 1...3 {
                let clients = try (0..<60).map { _ in try PlainClient(port: stage.port) }
                shed = 0
                try withRoom(forDescriptors: 2) {
                    try stage.run(until: { stage.listener.connectionCount + shed == clients.count })
                }
                // Another thread may take one of the two, or give one back: what counts is the client's view.
                let turnedAway = try clients.filter { try $0.isOver() }.count
                #expect(turnedAway == shed && turnedAway >= 55, "\(turnedAway) turned away, \(shed) told")
                for client in clients { client.close() }
                try stage.run(until: { stage.listener.connectionCount == 0 })
            }
            #expect(errors == [], "\(errors)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `without any descriptor the listener waits, and comes back within 100 ms`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let stage = try Stage(engine, serve: echo)
            var errors: [IOError] = []
            stage.listener.onError = { errors.append($1) }
            var shortest = Duration.seconds(60)
            for _ in 0..<3 {
                let client = try PlainClient(port: stage.port)
                errors = []
                let computed = try cpuSeconds()
                // Every number is at or above this limit: not even the spare descriptor helps.
                try withDescriptorLimit(1) {
                    let start = monotonicTime()
                    try stage.run(until: { monotonicTime() > start + .milliseconds(400) })
                }
                // The test's own look every 2 ms is in it.
                #expect(try cpuSeconds() - computed <= 0.1, "more than a quarter of a core")
                #expect((1...20).contains(errors.count), "\(errors.count)")
                #expect(errors.allSatisfy { $0.call == "accept" && $0.name == "EMFILE" }, "\(errors)")
                let freed = monotonicTime()
                try stage.run(until: { stage.listener.connectionCount == 1 })
                shortest = min(shortest, monotonicTime() - freed)
                client.close()
                try stage.run(until: { stage.listener.connectionCount == 0 })
            }
            // The best of three: a busy machine may delay one or the other.
            #expect(shortest <= .milliseconds(100), "\(shortest)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `clients are turned away again, also after a time without any descriptor`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let stage = try Stage(engine, serve: echo)
            var shed = 0
            var errorCount = 0
            stage.listener.onShed = { shed += $1.count }
            stage.listener.onError = { _, _ in errorCount += 1 }
            let first = try PlainClient(port: stage.port)
            try withDescriptorLimit(1) { try stage.run(until: { errorCount > 0 }) }
            try stage.run(until: { stage.listener.connectionCount == 1 })
            let late = try (0..<10).map { _ in try PlainClient(port: stage.port) }
            errorCount = 0
            try withRoom(forDescriptors: 0) { try stage.run(until: { shed == late.count }) }
            #expect(errorCount == 0, "\(errorCount) errors")
            first.close()
            try stage.run(until: { stage.listener.connectionCount == 0 })
        }
    }

    @Test(arguments: Engine.allCases)
    func `any other error backs off from 10 ms, doubling, and ends neither listener nor loop`(
        engine: Engine
    ) throws {
        let stage = try Stage(engine, serve: echo)
        let old = try PlainClient(port: stage.port)
        try stage.run(until: { stage.listener.connectionCount == 1 })
        var told: [(error: IOError, at: Duration)] = []
        stage.listener.onError = { told.append(($1, monotonicTime())) }
        var ticks = 0
        let ticking = stage.loop.schedule(after: .zero, repeating: .milliseconds(5)) { _ in ticks += 1 }
        let socket = try #require(try listeningSocket(port: stage.port)).descriptor
        // Linux: the socket listens no more, and accept(2) says EINVAL each time.
        #expect(shutdown(socket, Int32(SHUT_RDWR)) == 0)
        let peer = onThread { try old.echoExactly(100_000) }
        try stage.run(until: { told.count == 6 && peer.isFinished })
        ticking.cancel()
        try peer.value()
        #expect(ticks > 6)
        #expect(told.allSatisfy { $0.error.call == "accept" && $0.error.name == "EINVAL" })
        #expect(told.allSatisfy { $0.error.address == stage.listener.localAddress })
        for (index, pair) in zip(told, told.dropFirst()).enumerated() {
            #expect(pair.1.at - pair.0.at >= .milliseconds(10 << index), "pause \(index)")
        }
        // The trouble has gone: the listener serves again by itself.
        #expect(listen(socket, 16) == 0)
        // The port was the kernel's choice; it has chosen anew.
        let new = try PlainClient(port: localPort(of: socket))
        try stage.run(until: { stage.listener.connectionCount == 2 })
        let again = onThread {
            try new.echoExactly(1_000)
            new.close()
            old.close()
        }
        try stage.run(until: { again.isFinished && stage.listener.connectionCount == 0 })
        try again.value()
    }

    @Test(arguments: Engine.allCases)
    func `a listener that backs off can be paused, resumed and closed`(engine: Engine) throws {
        let stage = try Stage(engine)
        var errorCount = 0
        stage.listener.onError = { _, _ in errorCount += 1 }
        let socket = try #require(try listeningSocket(port: stage.port)).descriptor
        #expect(shutdown(socket, Int32(SHUT_RDWR)) == 0)
        try stage.run(until: { errorCount > 0 })
        stage.listener.pause()
        let told = errorCount
        let start = monotonicTime()
        try stage.run(until: { monotonicTime() > start + .milliseconds(60) })
        #expect(errorCount == told)
        stage.listener.resume()
        try stage.run(until: { errorCount > told })
        errorCount = 0
        var isClosed = false
        stage.listener.onClose = { _ in isClosed = true }
        stage.listener.close()
        // The timer of the back-off must not keep the loop.
        try stage.loop.run()
        #expect(isClosed)
        #expect(errorCount == 0)
    }
}

extension PlainClient {
    /// Whether FIN or RST has come, with no bytes before it.
    fileprivate func isOver() throws -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 0) == 1 else { return false }
        return try receiveUntilOver().bytes == []
    }
}
