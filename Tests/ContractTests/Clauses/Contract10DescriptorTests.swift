import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 10: descriptors` {
    /// The ways in which a connection comes to its end.
    enum Ending: String, CaseIterable, Codable {
        case closed, ended, reset, failedFirst, peerEnded, peerReset

        /// What this side does once the first byte has come.
        func act(_ connection: Connection) {
            switch self {
            case .closed: connection.close()
            case .ended: connection.end()
            case .reset: connection.reset()
            case .failedFirst:
                connection.close()
                connection.reset()
            case .peerEnded, .peerReset: break
            }
        }

        func act(_ peer: PlainClient) throws {
            switch self {
            case .peerEnded, .ended: try peer.halfClose()
            case .peerReset: try peer.reset()
            case .closed, .reset, .failedFirst: break
            }
        }
    }

    @Test(arguments: Engine.allCases, Ending.allCases)
    func `the descriptor is closed when onClose runs`(engine: Engine, ending: Ending) throws {
        var name: String?
        var wasOpen: Bool?
        var lastDescriptor: Int32?
        let stage = try Stage(engine) { connection in
            name = try? kernelName(ofSocket: connection.descriptor)
            connection.onData = { connection, _ in ending.act(connection) }
            connection.onClose = { connection, _ in
                lastDescriptor = connection.descriptor
                wasOpen = try? isOpen(kernelName: name ?? "")
            }
        }
        stage.mayEnd = { lastDescriptor != nil }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            try ending.act(client)
            if ending != .peerReset { _ = try client.receiveUntilOver() }
        }
        #expect(name?.hasPrefix("socket:") == true)
        #expect(wasOpen == false)
        #expect(lastDescriptor == -1)
    }

    @Test(arguments: Engine.allCases)
    func `a listener's descriptor is closed when its onClose runs`(engine: Engine) throws {
        let stage = try Stage(engine)
        let name = try #require(try listeningSocket(port: stage.port)).kernelName
        var wasOpen: Bool?
        stage.listener.onClose = { _ in wasOpen = try? isOpen(kernelName: name) }
        stage.listener.close()
        try stage.loop.run()
        #expect(wasOpen == false)
    }

    @Test(arguments: Engine.allCases)
    func `a number handed out again brings nothing of its former owner`(engine: Engine) async throws {
        await #expect(processExitsWith: .success) { [engine] in
            var reused = 0
            for round in 0..<20 { reused += try Reuse(engine).play(round: round) }
            // Not in every round: another thread may take a number and with it upset the order. Without any the
            // test would show nothing.
            #expect(reused > 0, "no number was handed out again")
        }
    }

    @Test(arguments: Engine.allCases)
    func `all descriptors are back after a run`(engine: Engine) async throws {
        await #expect(processExitsWith: .success) { [engine] in
            // Once beforehand: what a process opens for good, it opens with its first loop.
            try playEveryEnding(engine)
            let before = try openDescriptors()
            for _ in 0..<3 { try playEveryEnding(engine) }
            #expect(try openDescriptors() == before)
        }
    }
}

/// Sixty clients, ten for each ending, on one loop that is let go at the end.
private func playEveryEnding(_ engine: Engine) throws {
    let endings = `Contract 10: descriptors`.Ending.allCases
    var closedCount = 0
    let stage = try Stage(engine) { connection in
        connection.onData = { connection, bytes in
            endings[Int(bytes[0])].act(connection)
        }
        connection.onClose = { _, _ in closedCount += 1 }
    }
    stage.mayEnd = { closedCount == 60 }
    try stage.run { port in
        for index in 0..<60 {
            let ending = endings[index % endings.count]
            let client = try PlainClient(port: port)
            try client.send([UInt8(index % endings.count)])
            try ending.act(client)
            if ending != .peerReset { _ = try client.receiveUntilOver() }
            client.close()
        }
    }
}

/// Closing and accepting in the same turn, so that new connections get the numbers of those just closed while
/// events for these are still on their way.
///
/// In the order in which things become ready, and in the order of their numbers, stand first a client that
/// brings about the closing, then a listener with new clients, then the clients that are closed. So whether an
/// engine hands on events in the one order or the other, those of the closed ones come last and are stale.
private final class Reuse {
    private static let count = 16
    private let loop: EventLoop
    private var victims: [Connection] = []
    private var victimNumbers: Set<Int32> = []
    private var newNumbers: Set<Int32> = []
    private var openCount = 0
    private var failures: [String] = []

    init(_ engine: Engine) throws {
        loop = try EventLoop(engine: engine)
    }

    /// Gives how many of the new connections had the number of one that was closed in that turn.
    func play(round: Int) throws -> Int {
        let opener = try listen { [self] connection in
            expect(.localClose, of: connection)
            connection.onData = { [self] connection, _ in
                for victim in victims { victim.reset() }
                connection.close()
            }
        }
        let trigger = try PlainClient(port: opener.port)
        try loop.run(until: { self.openCount == 1 })
        let target = try listen { [self] connection in
            newNumbers.insert(connection.descriptor)
            echo(connection)
            expect(.peerClosed, of: connection)
        }
        let doomed = try listen { [self] connection in
            victims.append(connection)
            victimNumbers.insert(connection.descriptor)
            connection.onData = { [self] _, _ in failures.append("a closed connection got data") }
            connection.onEnd = { [self] _ in failures.append("a closed connection got its end") }
            expect(.localReset, of: connection)
        }
        let old = try (0..<Self.count).map { _ in try PlainClient(port: doomed.port) }
        try loop.run(until: { self.victims.count == Self.count })
        // From here on the loop stands still, so that one turn finds all of it.
        try trigger.send("x")
        let payloads = (0..<Self.count).map { pseudoRandomBytes(count: 1_000, seed: UInt64(round * 100 + $0)) }
        let new = try payloads.map { payload in
            let peer = try PlainClient(port: target.port)
            try peer.send(payload)
            return peer
        }
        for (index, peer) in old.enumerated() {
            try peer.send("stale")
            if index % 3 == 0 { try peer.reset() } else if index % 3 == 1 { try peer.halfClose() }
        }
        try serve(new, payloads)
        for listener in [opener, target, doomed] { listener.close() }
        try loop.run()
        #expect(failures == [], "\(failures)")
        withExtendedLifetime((trigger, old)) {}
        return newNumbers.intersection(victimNumbers).count
    }

    private func listen(_ onConnection: @escaping (Connection) -> Void) throws -> Listener {
        try loop.listen(onConnection: onConnection)
    }

    private func expect(_ expected: CloseReason, of connection: Connection) {
        openCount += 1
        connection.onClose = { [self] _, reason in
            openCount -= 1
            if reason != expected { failures.append("\(reason) in place of \(expected)") }
        }
    }

    private func serve(_ new: [PlainClient], _ payloads: [[UInt8]]) throws {
        let peers = onThread {
            for (peer, payload) in zip(new, payloads) {
                let back = try peer.receive(exactly: payload.count)
                #expect(back == payload)
                peer.close()
            }
        }
        try loop.run(until: { peers.isFinished && self.openCount == 0 })
        try peers.value(timeLimit: .seconds(1))
    }
}
