import CallbackServer
import Glibc
import TestSupport
import Testing

/// Clients that wait in the kernel's backlog when a drain begins: they have connected, and closing the listening socket
/// would reset them.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Clients in the backlog of a listener that drains` {
    /// More than one wake-up accepts.
    private static let waiting = 20

    /// What the listener is doing when the drain begins.
    enum State: CaseIterable { case accepting, paused, full }

    @Test(arguments: Engine.allCases, combined(State.allCases, [true, false]))
    func `serves them first, and no one else`(engine: Engine, how: (state: State, isUnix: Bool)) throws {
        let (state, isUnix) = how
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s"
        var options = Listener.Options()
        if state == .full { options.maxConnections = 1 }
        let loop = try EventLoop(engine: engine)
        let address: SocketAddress = try isUnix ? .unix(path: path) : .ipv4("127.0.0.1", port: 0)
        let listener = try loop.listen(on: address, options: options) { echo($0) }
        let port = UInt16(listener.localAddress.port ?? 0)
        func connect() throws -> PlainClient {
            isUnix ? try PlainClient(unixPath: path) : try PlainClient(port: port)
        }
        if state == .paused { listener.pause() }
        // The one that has the only place.
        let first = state == .full ? try connect() : nil
        if state == .full { try loop.run(until: { listener.connectionCount == 1 }) }
        let clients = try (0..<Self.waiting).map { _ in try connect() }
        for client in clients {
            try client.send("hello")
            try client.halfClose()
        }
        var isClosed = false
        listener.onClose = { _ in isClosed = true }
        var reports: [DrainReport] = []
        listener.drain(within: .seconds(600)) { reports.append($0) }
        listener.resume()
        try first?.halfClose()
        try loop.run(until: { isClosed })
        #expect(throws: PeerError.self) { try connect() }
        try loop.run()
        for client in clients { #expect(try client.receiveUntilEnd() == Array("hello".utf8)) }
        #expect(reports.map(\.reasons) == [[.peerClosed: Self.waiting + (first == nil ? 0 : 1)]])
    }

    @Test(arguments: Engine.allCases)
    func `has the deadline for it, and then resets those that still wait`(engine: Engine) throws {
        var options = Listener.Options()
        options.maxConnections = 1
        let scene = try StepStage(engine, options)
        let (connection, peer) = try scene.connect()
        let waiting = try PlainClient(port: scene.listener.port)
        try scene.settle()
        var reports: [DrainReport] = []
        scene.listener.drain(within: .milliseconds(50)) { reports.append($0) }
        try scene.loop.run()
        #expect(reports.map(\.reasons) == [[.drainDeadline: 1]])
        try waiting.expectReset()
        try peer.expectReset()
        withExtendedLifetime(connection) {}
    }

    @Test(arguments: Engine.allCases)
    func `is not over when the first of them has closed before the next is accepted`(engine: Engine) throws {
        var options = Listener.Options()
        options.acceptsPerWakeup = 1
        let loop = try EventLoop(engine: engine)
        let listener = try loop.listen(options: options) { $0.close() }
        listener.pause()
        let clients = try (0..<3).map { _ in try PlainClient(port: listener.port) }
        var reports: [DrainReport] = []
        listener.drain(within: .seconds(600)) { reports.append($0) }
        try loop.run()
        #expect(reports.map(\.reasons) == [[.localClose: 3]])
        for client in clients { try client.expectEnd() }
    }

    @Test(arguments: Engine.allCases)
    func `ends at once by close, and by a failure to accept`(engine: Engine) throws {
        for isFailing in [true, false] {
            let scene = try StepStage(engine)
            let (connection, peer) = try scene.connect()
            scene.listener.pause()
            let waiting = try PlainClient(port: scene.listener.port)
            var reports: [DrainReport] = []
            scene.listener.drain(within: .seconds(600)) { reports.append($0) }
            if isFailing {
                let socket = try #require(try listeningSocket(port: scene.listener.port)).descriptor
                #expect(shutdown(socket, Int32(SHUT_RDWR)) == 0)
            } else {
                scene.listener.close()
            }
            try scene.settle()
            try waiting.expectReset()
            try peer.halfClose()
            try scene.runUntilClosed(connection)
            try scene.loop.run()
            #expect(reports.map(\.reasons) == [[.peerClosed: 1]])
        }
    }

    @Test(arguments: Engine.allCases)
    func `refuses them beyond maxConnections if it is to refuse, and counts them`(engine: Engine) throws {
        var options = Listener.Options()
        options.maxConnections = 1
        options.beyondMaxConnections = .refuse
        let scene = try StepStage(engine, options)
        let (connection, _) = try scene.connect()
        scene.listener.pause()
        let waiting = try (0..<Self.waiting).map { _ in try PlainClient(port: scene.listener.port) }
        var shed = 0
        scene.listener.onShed = { shed += $1.count }
        var reports: [DrainReport] = []
        scene.listener.drain(within: .seconds(600)) { reports.append($0) }
        try scene.loop.run(until: { shed == Self.waiting })
        connection.reset()
        try scene.loop.run()
        #expect(reports.map(\.reasons) == [[.localReset: 1]])
        for client in waiting { _ = try client.receiveUntilOver() }
    }
}
