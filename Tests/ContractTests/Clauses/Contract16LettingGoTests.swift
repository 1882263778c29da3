import CallbackServer
import Glibc
import TestSupport
import Testing

/// Letting go of a loop that is in the middle of everything. Descriptors and memory are the process's, so those
/// are counted in a process of its own.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 16: letting go of a loop` {
    @Test(arguments: Engine.allCases)
    func `gives back all objects, and calls nobody`(engine: Engine) throws {
        var called: [String] = []
        var busy: BusyLoop? = try BusyLoop(engine, connectionCount: 5) { called.append($0) }
        let watched = try #require(busy?.watched)
        let clients = try #require(busy?.clients)
        #expect(watched.alive.count == watched.count)
        called = []
        busy = nil
        #expect(watched.alive == [])
        #expect(called == [])
        for client in clients {
            // The kernel tells the peer, with FIN or, for what was not read or not sent, with RST.
            _ = try client.receiveUntilOver()
        }
    }

    /// What a callback has captured goes with it, and may come back to its owner as it goes.
    @Test(arguments: Engine.allCases, [true, false])
    func `callbacks may hold what sets them, cancels or closes as it goes`(engine: Engine, isLoopFirst: Bool) throws {
        var (gone, called) = (0, 0)
        var loop: EventLoop? = try EventLoop(engine: engine)
        let listener = try #require(loop).listen(on: .ipv4("127.0.0.1", port: 0)) { _ in }
        var watcher: EventLoop.SignalWatcher?
        func meddle() {
            gone += 1
            listener.onShed = { _, _ in called += 1 }
            listener.onError = { _, _ in called += 1 }
            listener.onClose = { _ in called += 1 }
            listener.close()
            watcher?.cancel()
        }
        func capture(_ meddler: Meddler) throws {
            listener.onShed = { _, _ in withExtendedLifetime(meddler) {} }
            listener.onError = { _, _ in withExtendedLifetime(meddler) {} }
            listener.onClose = { _ in withExtendedLifetime(meddler) {} }
            watcher = try loop?.onSignal(.user2) { _ in withExtendedLifetime(meddler) {} }
        }
        try capture(Meddler(goes: meddle))
        if isLoopFirst {
            loop = nil
            #expect(called == 0)
        } else {
            watcher?.cancel()
            listener.close()
            try loop?.run()
        }
        #expect(listener.onShed == nil && listener.onError == nil && listener.onClose == nil)
        listener.onClose = { _ in called += 1 }
        #expect(listener.onClose == nil && gone == 1 && called == 0)
    }

    @Test(arguments: Engine.allCases)
    func `a drain that is replaced may drain as it goes`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { _ in }
        var told: [Int] = []
        func drainFirst(_ meddler: Meddler) {
            listener.drain(within: .seconds(9)) { _ in withExtendedLifetime(meddler) { told.append(1) } }
        }
        drainFirst(Meddler { listener.drain(within: .zero) { _ in told.append(3) } })
        listener.drain(within: .seconds(9)) { _ in told.append(2) }
        try loop.run()
        #expect(told == [3])
    }

    @Test(arguments: Engine.allCases)
    func `an object that outlives its loop is at rest, and takes every call`(engine: Engine) throws {
        var connection: Connection?
        var stage: Stage? = try Stage(engine) { connection = $0 }
        let client = try PlainClient(port: try #require(stage).port)
        try stage?.run(until: { connection != nil })
        let listener = try #require(stage?.listener)
        let timer = try #require(stage?.loop.schedule(after: .seconds(60)) { _ in })
        stage = nil
        let orphan = try #require(connection)
        #expect(orphan.write("x") == .closed)
        orphan.pause()
        orphan.resume()
        orphan.end()
        orphan.close()
        orphan.reset()
        #expect(orphan.descriptor == -1)
        #expect(orphan.localAddress == nil)
        listener.pause()
        listener.resume()
        listener.close()
        #expect(!timer.isArmed)
        timer.reschedule(after: .zero)
        timer.cancel()
        _ = try client.receiveUntilOver()
    }

    @Test(arguments: Engine.allCases)
    func `two hundred times costs no descriptor and no memory`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            func play(_ times: Int) throws {
                for _ in 0..<times { _ = try BusyLoop(engine, connectionCount: 3) { _ in } }
            }
            // What is made once for the process, and the pools of malloc(3), are there after a few.
            try play(50)
            let descriptors = try openDescriptors()
            let resident = try residentBytes()
            try play(200)
            #expect(try openDescriptors() == descriptors, "descriptors are missing or left")
            let grown = try residentBytes() - resident
            // Each queues 1 MiB for each of three connections: one that is lost shows.
            // A sanitizer holds back what was given back, up to 256 MiB; two hundred lost ones would be more.
            #expect(grown < (isSanitized ? 256 : 16) << 20, "grown by \(grown) bytes")
        }
    }
}

/// Does something as it goes.
private final class Meddler {
    private let goes: () -> Void

    init(goes: @escaping () -> Void) { self.goes = goes }

    deinit { goes() }
}

/// A loop with a bit of everything that a loop can hold, in the middle of its work.
private final class BusyLoop {
    private let loop: EventLoop
    let clients: [PlainClient]
    let watched = WeakReferences()

    init(_ engine: Engine, connectionCount: Int, _ note: @escaping (String) -> Void) throws {
        loop = try EventLoop(engine: engine)
        let watched = watched
        watched.add("loop", loop)
        var small = Listener.Options()
        // The kernel would else take what is meant to be queued here.
        small.connection.sendBufferSize = 16_384
        let listener = try loop.listen(options: small) { connection in
            let token = Token()
            watched.add("connection", connection)
            watched.add("token of a connection", token)
            connection.onData = { connection, bytes in
                _ = token
                // Far more than the peer, who reads nothing, has room for.
                connection.write([UInt8](repeating: 1, count: 1 << 20)) { _ in note("completion") }
            }
            connection.onDrain = { _ in note("drain") }
            connection.onEnd = { _ in note("end") }
            // A cycle until the callbacks are let go.
            connection.onClose = { _, _ in note("close \(connection.bytesRead)") }
        }
        listener.onClose = { _ in note("listener \(listener.port)") }
        watched.add("listener", listener)
        clients = try (0..<connectionCount).map { _ in
            try PlainClient(port: listener.port, receiveBuffer: 4_096)
        }
        for client in clients { try client.send("x") }
        var options = Listener.Options()
        options.connection.timeouts.idle = .seconds(60)
        let second = try loop.listen(options: options) { connection in
            watched.add("connection with a time-out", connection)
            connection.pause()
        }
        let patient = try PlainClient(port: second.port)
        try loop.run(until: { listener.connectionCount == connectionCount && second.connectionCount == 1 })
        while watched.lacksQueues(connectionCount) { try loop.run(.once) }
        _ = patient
        try addRest(note)
    }

    private func addRest(_ note: @escaping (String) -> Void) throws {
        for delay in [Duration.zero, .seconds(60)] {
            let token = Token()
            let timer = loop.schedule(after: delay, repeating: .seconds(1)) { _ in
                _ = token
                note("timer")
            }
            watched.add("timer", timer)
            watched.add("token of a timer", token)
        }
        let token = Token()
        let watcher = try loop.onSignal(.hangUp) { _ in
            _ = token
            note("signal")
        }
        watched.add("watcher", watcher)
        watched.add("token of a watcher", token)
        let question = Token()
        try loop.resolve(host: "localhost", port: 80) { _ in
            _ = question
            note("answer")
        }
        watched.add("token of a question", question)
    }
}

/// Objects that should go, and which of them are still there.
private final class WeakReferences {
    private struct Reference {
        let name: String
        weak var object: AnyObject?
    }

    private var references: [Reference] = []

    func add(_ name: String, _ object: AnyObject) {
        references.append(Reference(name: name, object: object))
    }

    var count: Int { references.count }

    var alive: [String] { references.filter { $0.object != nil }.map(\.name) }

    /// Whether fewer than `count` connections have bytes queued.
    func lacksQueues(_ count: Int) -> Bool {
        references.filter { ($0.object as? Connection)?.bufferedByteCount ?? 0 > 0 }.count < count
    }
}
