import CallbackServer
import ExampleSupport

/// One client, on its own loop.
final class Member {
    let connection: Connection
    let name: String
    /// The room that it hears.
    var room: String?
    /// The room whose owner has not let it in yet. Until then it is not read.
    var joining: String?
    /// How many of its requests are on their way.
    var requests = 0
    /// Whether it is read.
    var mayAsk: Bool { joining == nil && requests < Limits.requests }

    init(_ connection: Connection, _ name: String) {
        self.connection = connection
        self.name = name
    }
}

/// What one loop has: its members, and the rooms that it owns.
///
/// Whatever happens in a room goes through the room's owner, which passes it on to each loop with members. Messages
/// from one loop to another keep their order, so all members see one order.
final class Floor {
    private let index: Int
    private let doors: Doors
    private var members: [String: Member] = [:]
    private var lastNumber = 0
    private var isClosing = false
    /// Requests on their way, those of members who have gone among them.
    private(set) var requests = 0
    /// The rooms that this loop owns: the name of each member, and its loop.
    private var rooms: [String: [String: Int]] = [:]

    init(_ index: Int, _ doors: Doors) {
        self.index = index
        self.doors = doors
    }

    // MARK: Members of this loop

    func enter(_ connection: Connection) {
        // Members who come and go leave requests behind. A slow loop must not make them many.
        guard requests < Limits.members * Limits.requests, !isClosing else {
            return connection.finish(within: .farewell)
        }
        lastNumber += 1
        let member = Member(connection, "\(index)-\(lastNumber)")
        members[member.name] = member
        connection.onLines(limit: Limits.line) { [self] _, line in read(String(escaping: line), from: member) }
        connection.onClose = { [self] _, _ in
            members[member.name] = nil
            leave(member)
        }
        connection.write("* you are \(member.name): /join room, /leave, /who, /quit\n")
    }

    private func read(_ text: String, from member: Member) {
        switch text.split(separator: " ", maxSplits: 1).map(String.init) {
        case ["/quit"]:
            member.connection.finish(within: .farewell)
        case ["/leave"]:
            guard let room = member.room else { return tellNoRoom(member) }
            leave(member)
            member.connection.write("* you left \(room)\n")
        case ["/who"]:
            ask(member) { owner, request in owner.tellWho(request) }
        case let words where words.first == "/join":
            guard words.count == 2, (1...Limits.name).contains(words[1].unicodeScalars.count),
                words[1].allSatisfy({ $0.isLetter || $0.isNumber })
            else {
                member.connection.write("ERROR a room's name is 1 to \(Limits.name) letters or digits\n")
                return
            }
            leave(member)
            member.joining = words[1]
            send(Request(member.name, words[1], from: index, doors), of: member) { $0.join($1) }
        default:
            let bytes = Array("<\(member.name)> \(text)\n".utf8)
            ask(member) { owner, request in owner.passOn(bytes, request) }
        }
    }

    private func tellNoRoom(_ member: Member) {
        member.connection.write("ERROR you are in no room\n")
    }

    private func ask(_ member: Member, _ body: @escaping @Sendable (Floor, Request) -> Void) {
        guard let room = member.room else { return tellNoRoom(member) }
        send(Request(member.name, room, from: index, doors), of: member, body)
    }

    /// From now on it hears nothing of the room.
    private func leave(_ member: Member) {
        // Not the room alone: it may be on its way into one.
        guard let room = member.room ?? member.joining else { return }
        member.room = nil
        member.joining = nil
        send(Request(member.name, room, from: index, doors), of: member) { $0.leave($1) }
    }

    /// Sends a request to the room's owner, and reads no more from the member if it has enough of them on their way.
    private func send(_ request: Request, of member: Member, _ body: @escaping @Sendable (Floor, Request) -> Void) {
        requests += 1
        member.requests += 1
        if !member.mayAsk { member.connection.pause() }
        doors[doors.owner(of: request.room)]?.execute { owner in
            request.hear()
            body(owner, request)
        }
    }

    /// No loop has anything more to do with a request.
    func isDone(_ name: String, _ room: String, isHeard: Bool) {
        requests -= 1
        guard let member = members[name] else { return }
        member.requests -= 1
        // A member who has left the room meanwhile needs no answer.
        if !isHeard, room == member.joining ?? member.room {
            member.joining = nil
            member.connection.write("ERROR the room's loop has ended\n")
        }
        if member.mayAsk { member.connection.resume() }
    }

    /// The owner has let it in: what comes behind this is for it.
    private func letIn(_ name: String, _ room: String) {
        guard let member = members[name], member.joining == room else { return }
        member.joining = nil
        member.room = room
        member.connection.write("* you joined \(room)\n")
        // Another loop may keep the request for long.
        if member.mayAsk { member.connection.resume() }
    }

    private func hear(_ bytes: [UInt8], _ request: Request) {
        for member in members.values where member.room == request.room && member.name != request.member {
            // A member who does not read is reset by the limit of its queue.
            member.connection.write(bytes)
        }
    }

    func close() {
        isClosing = true
        for member in members.values {
            member.connection.write("* the rooms close\n")
            member.connection.finish(within: .farewell)
        }
    }

    // MARK: Rooms of this loop

    private func join(_ request: Request) {
        passOn(Array("* \(request.member) joined\n".utf8), request)
        rooms[request.room, default: [:]][request.member] = request.loop
        doors[request.loop]?.execute { $0.letIn(request.member, request.room) }
    }

    private func leave(_ request: Request) {
        rooms[request.room]?[request.member] = nil
        if rooms[request.room]?.isEmpty == true { rooms[request.room] = nil }
        passOn(Array("* \(request.member) left\n".utf8), request)
    }

    private func tellWho(_ request: Request) {
        let names = (rooms[request.room] ?? [:]).keys.sorted().joined(separator: ", ")
        doors[request.loop]?.execute { floor in
            floor.members[request.member]?.connection.write("* here: \(names)\n")
        }
    }

    /// To each loop with members of the room, once.
    private func passOn(_ bytes: [UInt8], _ request: Request) {
        for loop in Set((rooms[request.room] ?? [:]).values) {
            doors[loop]?.execute { $0.hear(bytes, request) }
        }
    }

    /// Its members are gone.
    func loopEnded(_ loop: Int) {
        rooms = rooms.mapValues { $0.filter { $0.value != loop } }.filter { !$0.value.isEmpty }
    }
}
