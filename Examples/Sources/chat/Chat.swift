import ArgumentParser
import CallbackServer
import ExampleSupport

/// Every bound of the program.
private enum Limits {
    /// Clients at a time; more are turned away.
    static let members = 256
    /// Bytes of one line.
    static let line = 512
    /// Characters of a name.
    static let name = 20
    /// How long a client may take to say its name.
    static let naming = Duration.seconds(60)
    /// Bytes that the kernel keeps for a client that does not read; its own choice would be megabytes.
    static let sendBuffer = 64 * 1024
}

@main
struct Chat: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chat", abstract: "A chat room: what one client says, all the others hear.")

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("Drop a client for which the others had to wait so long.", valueName: "seconds"))
    var patience = 3.0

    func validate() throws {
        guard (0.1...60).contains(patience) else {
            throw ValidationError("--patience \(patience) is not between 0.1 and 60 seconds")
        }
    }

    func run() throws {
        let loop = try EventLoop(engine: options.engine)
        let room = Room(patience: .seconds(patience))
        var listening = Listener.Options()
        listening.maxConnections = Limits.members
        listening.beyondMaxConnections = .refuse
        listening.connection.timeouts.read = Limits.naming
        listening.connection.sendBufferSize = Limits.sendBuffer
        // A peer that vanished without a word is found out.
        listening.connection.keepAlive = .init()
        let listener = try loop.listen(on: options.address, options: listening, onConnection: room.enter)
        listener.onShed = { _, shed in printLine("Turned away \(shed.count): \(shed.cause)") }
        listener.onError = { _, error in printLine("\(error)") }
        try loop.drain(listener, within: .seconds(options.drain), farewell: room.close)
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}

/// One client.
final class Member {
    let connection: Connection
    /// Nothing until the client has said it.
    var name: String?
    /// Inside a line that was found to be too long.
    var isPassingOver = false
    /// Runs while the client's queue is full; when it fires, the client is dropped.
    var patience: EventLoop.Timer?

    init(_ connection: Connection) {
        self.connection = connection
    }
}

/// The clients, and what they say to each other.
///
/// Nobody is heard while somebody's queue is full, so no queue grows; and whoever keeps the others waiting for too
/// long is dropped.
final class Room {
    private let patience: Duration
    private var members: [Connection: Member] = [:]
    private var slowCount = 0

    init(patience: Duration) {
        self.patience = patience
    }

    func enter(_ connection: Connection) {
        let member = Member(connection)
        members[connection] = member
        // The longest line, and CR LF.
        connection.onFrames(limit: Limits.line + 2) { [self] _, reader in read(&reader, from: member) }
        connection.onDrain = { [self] _ in caughtUp(member) }
        connection.onClose = { [self] _, reason in left(member, reason) }
        if slowCount > 0 { connection.pause() }
        send("Welcome. What is your name?\n", to: member)
    }

    /// Ends the conversation.
    func close() {
        for member in members.values {
            send("* the room closes\n", to: member)
            member.connection.finish(within: .farewell)
        }
    }

    /// One line, or a piece of one that is too long: that is told once, and the rest passed over.
    private func read(_ reader: inout ByteReader, from member: Member) -> FrameStatus {
        let end = reader.rest.firstIndex(of: UInt8(ascii: "\n"))
        guard let end else {
            guard reader.remaining == Limits.line + 2 else { return .needMore }
            reader.skip(reader.remaining)
            if !member.isPassingOver { tooLong(member) }
            member.isPassingOver = true
            return .frame
        }
        var line = reader.rest.extracting(first: end)
        reader.skip(end + 1)
        if member.isPassingOver {
            member.isPassingOver = false
            return .frame
        }
        if !line.isEmpty, line[line.count - 1] == UInt8(ascii: "\r") { line = line.extracting(droppingLast: 1) }
        // Escaped: no client writes to another's terminal, turns its text around, or hides in it.
        if line.count > Limits.line { tooLong(member) } else { heard(String(escaping: line), from: member) }
        return .frame
    }

    private func tooLong(_ member: Member) {
        send("* a line has at most \(Limits.line) bytes\n", to: member)
    }

    private func heard(_ text: String, from member: Member) {
        if let name = member.name {
            if !text.isEmpty { tell("<\(name)> \(text)\n", except: member) }
            return
        }
        // What was escaped has a backslash, which is no letter. A letter may carry marks, but not any number of them.
        guard (1...Limits.name).contains(text.unicodeScalars.count), text.allSatisfy({ $0.isLetter || $0.isNumber })
        else {
            return send("* a name is 1 to \(Limits.name) letters or digits\n", to: member)
        }
        let others = members.values.compactMap(\.name).sorted()
        guard !others.contains(text) else { return send("* \(text) is here already\n", to: member) }
        member.name = text
        // From now on a client may be silent for as long as it likes.
        member.connection.options.timeouts.read = nil
        send("* here: \(others.isEmpty ? "nobody else" : others.joined(separator: ", "))\n", to: member)
        tell("* \(text) joined\n", except: member)
        printLine("\(text) joined from \(member.connection.remoteAddress)")
    }

    private func tell(_ text: String, except author: Member) {
        for member in members.values where member !== author && member.name != nil { send(text, to: member) }
    }

    private func send(_ text: String, to member: Member) {
        guard member.connection.write(text) == .saturated, member.patience == nil else { return }
        member.patience = member.connection.schedule(after: patience) { connection, _ in connection.reset() }
        slowCount += 1
        if slowCount == 1 { for member in members.values { member.connection.pause() } }
    }

    /// The client's queue is short again, or gone with the client.
    private func caughtUp(_ member: Member) {
        guard let patience = member.patience else { return }
        patience.cancel()
        member.patience = nil
        slowCount -= 1
        if slowCount == 0 { for member in members.values { member.connection.resume() } }
    }

    private func left(_ member: Member, _ reason: CloseReason) {
        members[member.connection] = nil
        let verb = reason == .localReset ? "was too slow" : "left"
        caughtUp(member)
        guard let name = member.name else { return }
        tell("* \(name) \(verb)\n", except: member)
        printLine("\(name) \(verb): \(reason)")
    }
}
