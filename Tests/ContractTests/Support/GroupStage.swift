import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

/// A group with one listener, run on the test's thread. Each client is told the number of its loop, and then echoed.
final class GroupStage {
    let group: EventLoop.Group
    let listener: GroupListener
    let tally = GroupTally()

    init(
        _ engine: Engine, count: Int = 2, _ distribution: EventLoop.Group.Distribution = .evenly,
        on address: SocketAddress? = nil, options: Listener.Options = .init()
    ) throws {
        group = try EventLoop.Group(engine: engine, count: count)
        let address = try address ?? .ipv4("127.0.0.1", port: 0)
        listener = try group.listen(on: address, options: options, distribution: distribution) { [tally] loop in
            let room = GroupRoom(loop, tally)
            tally.rooms.withLock { $0[loop.indexInGroup ?? -1] = LoopBound(room, on: loop) }
            return { room.serve($0) }
        }
    }

    var port: UInt16 { UInt16(listener.localAddress.port ?? 0) }

    /// Runs the group while `peer` runs on its own thread, and until no connection is left.
    @discardableResult
    func run<Value: Sendable>(_ peer: @escaping @Sendable (UInt16) throws -> Value) throws -> Value {
        let port = port
        let thread = onThread { try peer(port) }
        try group.loop.run(until: { thread.isFinished && self.listener.connectionCount == 0 })
        return try thread.value(timeLimit: .seconds(1))
    }

    /// Connects clients while the group runs.
    func connect(_ count: Int) throws -> [(client: PlainClient, loop: Int)] {
        let port = port
        let thread = onThread { try (0..<count).map { _ in try groupClient(port) } }
        try group.loop.run(until: { thread.isFinished })
        return try thread.value(timeLimit: .seconds(1))
    }

    /// Closes the listener, and runs the group to its end.
    func end() throws {
        listener.close()
        try group.run()
    }
}

/// What the loops of a group count together.
final class GroupTally: Sendable {
    let served = Atomic(0)
    /// Callbacks on another thread or loop than the connection's.
    let misplaced = Atomic(0)
    /// By the number of the loop.
    let rooms = Mutex<[Int: LoopBound<GroupRoom>]>([:])
}

/// How many of something there are, and were at most.
final class Gauge: Sendable {
    private let now = Atomic(0)
    private let highest = Atomic(0)

    var most: Int { highest.load(ordering: .sequentiallyConsistent) }

    func change(by count: Int) {
        highest.max(now.add(count, ordering: .sequentiallyConsistent).newValue, ordering: .sequentiallyConsistent)
    }
}

/// What the connections of one loop share: nothing here is locked.
final class GroupRoom {
    private let thread = pthread_self()
    private unowned let loop: EventLoop
    private let tally: GroupTally
    private var count = 0
    /// The part of the group's listener that this loop has, once it has a client.
    private(set) weak var listener: Listener?

    init(_ loop: EventLoop, _ tally: GroupTally) {
        self.loop = loop
        self.tally = tally
    }

    func serve(_ connection: Connection) {
        check(connection)
        tally.served.add(1, ordering: .sequentiallyConsistent)
        count += 1
        listener = connection.listener
        connection.write("\(loop.indexInGroup ?? -1)\n")
        connection.onData = { [self] connection, bytes in
            check(connection)
            if connection.write(bytes) == .saturated { connection.pause() }
        }
        connection.onDrain = { $0.resume() }
        connection.onClose = { [self] connection, _ in
            check(connection)
            count -= 1
        }
    }

    private func check(_ connection: Connection) {
        if pthread_self() != thread || !loop.isOnLoop || connection.loop !== loop {
            tally.misplaced.add(1, ordering: .relaxed)
        }
    }
}

/// A client of a `GroupStage`, and the loop that serves it.
func groupClient(_ port: UInt16) throws -> (client: PlainClient, loop: Int) {
    let client = try PlainClient(port: port)
    return (client, Int(try client.receiveLine()) ?? -1)
}
