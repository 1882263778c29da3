import CallbackServer
import ExampleSupport
import Glibc

/// One client: three messages, each read by a framing of its own, then a pipe each way.
final class Client {
    private let connection: Connection
    /// Who may come in; anybody if it is `nil`.
    private let user: User?
    /// Runs until the client has said where it wants to go.
    private let deadline: EventLoop.Timer

    init(_ connection: Connection, _ user: User?) {
        self.connection = connection
        self.user = user
        deadline = connection.schedule(after: Limits.asking) { connection, _ in connection.reset() }
        connection.onClose = { connection, reason in
            if case .failed(let error) = reason { printLine("\(connection.remoteAddress): \(error)") }
        }
    }

    /// RFC 1928, section 3: the version, and which methods of authentication the client knows.
    func greet() {
        connection.onFrames(limit: Limits.message) { [self] connection, reader throws(IOError) in
            try version(5, &reader)
            guard let count = reader.integer(UInt8.self), let methods = reader.bytes(Int(count)) else {
                return .needMore
            }
            let method: UInt8 = user == nil ? 0 : 2
            let isKnown = methods.firstIndex(of: method) != nil
            connection.write([5, isKnown ? method : 0xFF])
            if !isKnown { hangUp() } else if user == nil { awaitRequest() } else { awaitPassword() }
            return .frame
        }
    }

    /// RFC 1929, section 2.
    private func awaitPassword() {
        connection.onFrames(limit: Limits.message) { [self] connection, reader throws(IOError) in
            try version(1, &reader)
            guard let nameCount = reader.integer(UInt8.self), let name = reader.bytes(Int(nameCount)),
                let count = reader.integer(UInt8.self), let password = reader.bytes(Int(count))
            else { return .needMore }
            let isWelcome = user.map { user in
                isSame(user.name, [UInt8](copying: name)) && isSame(user.password, [UInt8](copying: password))
            }
            connection.write([1, isWelcome == true ? 0 : 1])
            if isWelcome == true { awaitRequest() } else { hangUp() }
            return .frame
        }
    }

    /// Section 4: CONNECT to an address or a name, and a port.
    private func awaitRequest() {
        connection.onFrames(limit: Limits.message) { [self] _, reader throws(IOError) in
            try version(5, &reader)
            guard let command = reader.integer(UInt8.self), reader.skip(1), let kind = reader.integer(UInt8.self) else {
                return .needMore
            }
            let count: Int
            switch kind {
            case 1: count = 4
            case 4: count = 16
            case 3:
                guard let length = reader.integer(UInt8.self) else { return .needMore }
                count = Int(length)
            default:
                refuse(8)
                return .frame
            }
            guard let place = reader.bytes(count), let port = reader.integer(UInt16.self) else { return .needMore }
            deadline.cancel()
            if command != 1 { refuse(7) } else { connect(to: place, isName: kind == 3, port: Int(port)) }
            return .frame
        }
    }

    private func connect(to place: Span<UInt8>, isName: Bool, port: Int) {
        var connecting = EventLoop.ConnectOptions()
        connecting.connection.timeouts.idle = Limits.idle
        connecting.connection.timeouts.connect = Limits.connecting
        // What the client sends behind its request waits until there is somebody to take it.
        connection.pause()
        do throws(IOError) {
            let target: Connection
            if isName {
                guard let host = String(validating: place) else { return refuse(4) }
                target = try connection.loop.connect(host: host, port: port, options: connecting)
            } else {
                target = try connection.loop.connect(to: SocketAddress(bytes: place, port: port), options: connecting)
            }
            connection.onClose = { _, _ in
                target.onClose = nil
                target.reset()
            }
            target.onOpen = { [self] target in
                connection.onClose = nil
                target.onClose = nil
                answer(0, target.localAddress?.unmapped)
                connection.pipe(to: target)
                target.pipe(to: connection)
                connection.resume()
            }
            target.onClose = { [self] _, reason in
                printLine("\(connection.remoteAddress): \(reason)")
                refuse(Self.code(for: reason))
            }
        } catch {
            printLine("\(connection.remoteAddress): \(error)")
            refuse(4)
        }
    }

    // MARK: Answers

    /// Section 6: what was bound here, or why there is nothing.
    private func answer(_ code: UInt8, _ address: SocketAddress? = nil) {
        var writer = ByteWriter()
        writer.bytes([5, code, 0, address?.family == .ipv6 ? 4 : 1])
        writer.bytes(address?.bytes ?? [0, 0, 0, 0])
        writer.integer(UInt16(address?.port ?? 0))
        connection.write(writer.bytes)
    }

    private func refuse(_ code: UInt8) {
        answer(code)
        hangUp()
    }

    private func hangUp() {
        connection.resume()
        connection.finish(within: .farewell)
    }

    private static func code(for reason: CloseReason) -> UInt8 {
        guard case .failed(let error) = reason else { return 4 }
        switch error.errno {
        case ECONNREFUSED: return 5
        case ENETUNREACH: return 3
        // Not to be reached, or no such name.
        case EHOSTUNREACH, ENOENT: return 4
        default: return error.call == "getaddrinfo" ? 4 : 1
        }
    }
}

/// Throws if another version, or another protocol, speaks.
private func version(_ expected: UInt8, _ reader: inout ByteReader) throws(IOError) {
    guard let version = reader.integer(UInt8.self), version != expected else { return }
    throw IOError(call: "socks", errno: EBADMSG, detail: "version \(version)")
}

/// Takes as long for one wrong byte as for another.
private func isSame(_ one: [UInt8], _ other: [UInt8]) -> Bool {
    one.count == other.count && zip(one, other).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
}
