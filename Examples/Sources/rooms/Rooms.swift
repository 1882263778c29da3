import ArgumentParser
import CallbackServer
import ExampleSupport
import Synchronization

/// Every bound of the program.
enum Limits {
    /// Clients at a time on all loops together; more are turned away.
    static let members = 256
    /// Bytes of one line.
    static let line = 512
    /// Characters of a room's name.
    static let name = 20
    /// Requests of one member that are on their way. One more is not read until one of them has been passed on.
    static let requests = 16
    /// Bytes that wait for a member who does not read. With more it is cut off.
    static let queue = 1 << 20
    /// Bytes that the kernel keeps for it besides.
    static let sendBuffer = 64 * 1024
    /// Loops of the group.
    static let loops = 64
}

@main
struct Rooms: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rooms", abstract: "A chat with rooms, whose members are spread over several loops.")

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("Serve on N loops, each on its own thread.", valueName: "n"))
    var loops = min(EventLoop.Group.coreCount, Limits.loops)

    func validate() throws {
        guard (1...Limits.loops).contains(loops) else {
            throw ValidationError("--loops \(loops) is not between 1 and \(Limits.loops)")
        }
    }

    func run() throws {
        let group = try EventLoop.Group(engine: options.engine, count: loops)
        let doors = Doors(count: loops)
        let listener = try doors.listen(on: options.address, group)
        listener.onShed = { _, shed in printLine("Turned away \(shed.count): \(shed.cause)") }
        listener.onError = { _, error in printLine("\(error)") }
        try group.drain(listener, within: .seconds(options.drain)) { doors.all { $0.close() } }
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try group.run()
    }
}

/// The way to each loop.
final class Doors: Sendable {
    private let count: Int
    private let doors = Mutex<[Int: LoopBound<Floor>]>([:])

    init(count: Int) {
        self.count = count
    }

    /// Listens on all loops, each with a floor. Every loop has set its door before there is a client.
    func listen(on address: SocketAddress, _ group: EventLoop.Group) throws(IOError) -> GroupListener {
        var options = Listener.Options()
        options.maxConnections = Limits.members
        options.beyondMaxConnections = .refuse
        options.connection.maxQueuedBytes = Limits.queue
        options.connection.sendBufferSize = Limits.sendBuffer
        options.connection.keepAlive = .init()
        group.onLoopEnd = { [self] _, index, error in
            printLine("Loop \(index) has ended\(error.map { ": \($0)" } ?? "")")
            all { $0.loopEnded(index) }
        }
        return try group.listen(on: address, options: options) { [self] loop in
            let index = loop.indexInGroup ?? 0
            let floor = Floor(index, self)
            doors.withLock { $0[index] = LoopBound(floor, on: loop) }
            return floor.enter
        }
    }

    subscript(index: Int) -> LoopBound<Floor>? { doors.withLock { $0[index] } }

    /// Which loop owns a room.
    func owner(of room: String) -> Int { Int(UInt(bitPattern: room.hashValue) % UInt(count)) }

    func all(_ body: @escaping @Sendable (Floor) -> Void) {
        for door in doors.withLock({ Array($0.values) }) { door.execute(body) }
    }
}

/// What a member has asked of a room's owner, until no loop has anything more to do with it.
///
/// Each body on its way to a loop holds it. When the last one has run, or was let go of since its loop has ended, the
/// member's own loop is told. So that loop knows how many requests are on their way, whatever becomes of them.
final class Request: Sendable {
    let member: String
    let room: String
    let loop: Int
    private let doors: Doors
    private let isHeard = Atomic(false)

    init(_ member: String, _ room: String, from loop: Int, _ doors: Doors) {
        self.member = member
        self.room = room
        self.loop = loop
        self.doors = doors
    }

    deinit {
        let (member, room, isHeard) = (member, room, isHeard.load(ordering: .acquiring))
        doors[loop]?.execute { $0.isDone(member, room, isHeard: isHeard) }
    }

    /// The owner has it.
    func hear() { isHeard.store(true, ordering: .releasing) }
}
