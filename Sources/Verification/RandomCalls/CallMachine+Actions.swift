internal import CallbackModel
internal import Glibc
internal import ParityKit

// What the sequence can ask for, in callbacks and outside of `run`. Only what the documentation calls a programming
// error is left out: running a loop inside its own callback, negative times, a pipe between two loops.
extension CallMachine {
    /// At most so many of each kind in one loop.
    private static let mostConnections = 24
    private static let mostListeners = 3
    private static let mostPeers = 16

    func act() {
        guard !tape.isOver else { return }
        switch tape.next(below: 16) {
        case 0...5: actOnConnection()
        case 6...8: actOnPeer()
        case 9: newPeer()
        case 10: adopt()
        case 11: connect()
        case 12: actOnListener()
        case 13, 14: actOnTimer()
        default: actOnLoop()
        }
        noticeLoop()
    }

    /// Of seven bits, so that a text has the same; each length and beginning is a piece of it.
    private static let material: [UInt8] = (0..<256 * 300 + 256).map { (place: Int) -> UInt8 in
        let number = place * 7 + place / 251
        return UInt8(number & 0x7F)
    }

    private func bytes() -> [UInt8] {
        let size = tape.next()
        let count = tape.chance(1, of: 4) ? size * 300 : size
        let first = tape.next()
        return Array(Self.material[first..<first + count])
    }

    private func form() -> FrameForm {
        let kind = FrameForm.Kind.allCases[tape.next(below: FrameForm.Kind.allCases.count)]
        return FrameForm(kind, limit: [1, 30, 300, 20_000, 1 << 20][tape.next(below: 5)])
    }

    /// Some frames, as `connection` is told them, if it is told any; and sometimes what is none.
    private func input(of connection: CalledConnection?) -> [UInt8] {
        guard let framing = connection?.framing, tape.chance(7, of: 8) else { return bytes() }
        var frames: [UInt8] = []
        for _ in 0..<1 + tape.next(below: 6) {
            let size = tape.next()
            let count = size < 250 ? size % 40 : size < 254 ? size * 2 : size * 40
            let first = tape.next()
            frames += framing.frame(of: Self.material[first..<first + count])
        }
        // More than are told in one turn.
        if frames.count < 300, tape.chance(1, of: 16) { frames = Array(repeatElement(frames, count: 400).joined()) }
        // The rest of the last one may come with something else.
        if tape.chance(1, of: 4) { frames.removeLast(tape.next(below: frames.count)) }
        return frames
    }

    private func anyConnection() -> CalledConnection? {
        connections.isEmpty ? nil : connections[tape.next(below: connections.count)]
    }

    // MARK: Connections

    private func actOnConnection() {
        guard let connection = anyConnection() else { return }
        switch tape.next(below: 32) {
        case 0...7: connection.write(bytes(), tape.next(below: 8))
        case 8, 9: connection.pause()
        case 10...12: connection.resume()
        case 13: connection.end()
        case 14: connection.close()
        case 15: connection.reset()
        case 16: if tape.chance(1, of: 2), let target = anyConnection() { connection.pipe(to: target) }
        case 17: connection.drop()
        case 18: setCallback(of: connection)
        case 19: connection.setOptions(changedOptions())
        case 20: connection.finish(within: .milliseconds(tape.next()))
        case 21...24: connection.frame(form())
        case 25: schedule(connection)
        case 26: connection.beginTask()
        default: connection.look()
        }
    }

    private func setCallback(of connection: CalledConnection) {
        let callbacks = CalledConnection.Callback.allCases
        let callback = callbacks[tape.next(below: callbacks.count)]
        let isSet = tape.chance(3, of: 4)
        note("set \(callback) of connection \(connection.number): \(isSet)")
        connection.set(callback, isSet: isSet)
    }

    private func schedule(_ connection: CalledConnection) {
        guard timers.count < Self.mostTimers else { return }
        let milliseconds = tape.next(below: 4)
        let isRepeating = tape.chance(1, of: 4)
        if let timer = CalledTimer(connection, milliseconds, isRepeating: isRepeating, self) { timers.append(timer) }
    }

    private func changedOptions() -> Connection.Options {
        var options = ChosenOptions(&tape).connection
        options.timeouts.connect = .milliseconds(1 + tape.next(below: 8))
        return options
    }

    private func add(_ kind: CalledConnection.Kind, _ connection: Connection) -> CalledConnection {
        let model = CalledConnection(connections.count, kind, connection, self)
        connections.append(model)
        if tape.chance(1, of: 2) { model.frame(form()) }
        return model
    }

    private var isFull: Bool { connections.count >= Self.mostConnections }

    private func accept(_ connection: Connection, _ listener: CalledListener) {
        listener.connected {
            let model = add(.accepted, connection)
            model.listener = listener
            if listener.acceptsLast { model.drains() }
            note("connection \(model.number) from \(connection.remoteAddress)")
            let port = connection.remoteAddress.port
            // The port alone tells nothing: the kernel gives the same one to clients of two listeners.
            if let peer = peers.last(where: { $0.port == port && $0.listener === listener }) {
                model.other = .peer(peer)
                peer.connection = model
            } else if let client = connections.last(where: { $0.name(at: listener) == port }) {
                model.other = .connection(client)
                client.other = .connection(model)
            }
        }
    }

    private func connect() {
        guard let loop, !isFull else { return }
        var options = EventLoop.ConnectOptions()
        options.connection = self.options.connection
        do throws(IOError) {
            let connection: Connection
            let way = tape.next(below: 8)
            switch way {
            case 0 where transport.opensAtOnce:
                connection = try loop.connect(host: Self.host, port: anyPort(), options: options)
            case 1: connection = try transport.connect(loop, .unix(path: "/nowhere/at all"), options)
            // Nobody listens there: a port below 1,024 that is nobody's, of this host.
            case 2: connection = try transport.connect(loop, .ipv4(Self.host, port: 1), options)
            default: connection = try transport.connect(loop, .ipv4(Self.host, port: anyPort()), options)
            }
            let model = add(way == 1 || way == 2 ? .hopeless : .client, connection)
            note("connection \(model.number) is begun to \(connection.remoteAddress)")
        } catch {
            report("connect", error)
        }
    }

    /// One that is open: others may get the port of one that is not.
    private func openListener() -> CalledListener? {
        let open = listeners.filter(\.isListening)
        return open.isEmpty ? nil : open[tape.next(below: open.count)]
    }

    /// Of a listener that is open; without one, of nobody.
    private func anyPort() -> Int { openListener()?.port ?? 1 }

    private func adopt() {
        guard let loop, !isFull, peers.count < Self.mostPeers else { return }
        do throws(PeerFailure) {
            let isUnix = tape.chance(1, of: 2)
            let (mine, theirs) = isUnix ? try unixPair() : try pair()
            let peer = CalledPeer(peers.count, theirs, isUnix: isUnix, self)
            peers.append(peer)
            do throws(IOError) {
                let model = add(.adopted, try loop.adopt(connected: mine, options: options.connection))
                note("connection \(model.number) is adopted, \(isUnix ? "a Unix socket" : "TCP"), peer \(peer.number)")
                model.other = .peer(peer)
                peer.connection = model
            } catch {
                Glibc.close(mine)
                overseer.report("adopt threw \(error)")
            }
        } catch {
            overseer.report("a pair of sockets: \(error.description)")
        }
        if tape.chance(1, of: 8) { adoptWhatCannotBe(loop) }
    }

    /// Refused with an error, and still the caller's to close.
    private func adoptWhatCannotBe(_ loop: EventLoop) {
        let file = unsafe open("/dev/null", O_RDWR)
        for descriptor in [-1, file] {
            if (try? loop.adopt(connected: descriptor)) != nil { overseer.report("adopt took \(descriptor)") }
            if (try? loop.listen(adopting: descriptor) { _ in }) != nil { overseer.report("listen took \(descriptor)") }
        }
        guard Glibc.close(file) == 0 else { return overseer.report("a descriptor that was not adopted was closed") }
    }

    private func unixPair() throws(PeerFailure) -> (Int32, PeerSocket) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            throw PeerFailure(call: "socketpair", errno: errno)
        }
        return (ends[0], PeerSocket(adopting: ends[1], until: Self.soon))
    }

    /// Connections to this host take no time; one that does has failed.
    private static var soon: ContinuousClock.Instant { .now + .seconds(5) }

    // Addresses of this process's own; all of 127.0.0.0/8 is this host. With those that all processes have, a name that
    // the resolver is slow to answer could lead to a port that was this machine's when it was asked for, and is
    // another's by now.

    /// Of the listeners.
    private static let host = ownAddress(from: 64)
    /// Of the meeting place: not that of the listeners, since it must take nobody who is late for a closed one of them.
    private static let meetingHost = ownAddress(from: 128)

    /// One of so many addresses as there can be processes, whose numbers have 22 bits (proc(5), pid_max).
    private static func ownAddress(from second: Int32) -> String {
        let process = getpid()
        return "127.\(second + (process >> 16 & 63)).\(process >> 8 & 255).\(process & 255)"
    }

    private static func address(_ host: String, port: Int) throws(PeerFailure) -> SocketAddress {
        do throws(IOError) {
            return try .ipv4(host, port: port)
        } catch {
            throw PeerFailure(call: error.call, errno: error.errno)
        }
    }

    private func pair() throws(PeerFailure) -> (Int32, PeerSocket) {
        let place: PeerSocket
        if let meetingPlace {
            place = meetingPlace
        } else {
            let address = try Self.address(Self.meetingHost, port: 0)
            place = try PeerSocket(for: address, until: Self.soon)
            try place.bind(to: address)
            try place.listen(backlog: 16)
            meetingPlace = place
        }
        place.deadline = Self.soon
        let address = try place.localAddress()
        let socket = try PeerSocket(for: address, until: Self.soon)
        try socket.connect(to: address)
        let mine = try place.accept().surrender()
        return (mine, socket)
    }

    // MARK: Peers

    private func newPeer() {
        guard peers.count < Self.mostPeers, !isFull else { return }
        let listener = openListener()
        do throws(PeerFailure) {
            let address = try Self.address(Self.host, port: listener?.port ?? 1)
            let socket = try PeerSocket(for: address, until: Self.soon)
            if tape.chance(1, of: 2) { socket.setBuffers(receive: 4_096, send: 4_096) }
            try socket.connect(to: address)
            if let layer = try transport.layer(socket, false) { try socket.speak(layer, waits: false) }
            let peer = CalledPeer(peers.count, socket, isUnix: false, self)
            peers.append(peer)
            peer.connects(to: listener)
            note("peer \(peer.number) connects from \(peer.port ?? 0)")
        } catch {
            // Nobody listens.
            if error.errno != ECONNREFUSED { overseer.report("a peer: \(error.description)") }
        }
    }

    private func actOnPeer() {
        guard !peers.isEmpty else { return newPeer() }
        let peer = peers[tape.next(below: peers.count)]
        switch tape.next(below: 12) {
        case 0...4: peer.send(input(of: peer.connection))
        case 5...8: peer.receive(1 + tape.next() * 256)
        case 9: peer.finish()
        case 10: peer.reset()
        default:
            note("peer \(peer.number) closes")
            peer.close()
        }
    }

    // MARK: Listeners

    func listen() {
        guard let loop, listeners.count < Self.mostListeners * 3 else { return }
        let model = CalledListener(listeners.count, self)
        do throws(IOError) {
            model.begin(
                try transport.listen(loop, .ipv4(Self.host, port: 0), options.listener) { [self] in
                    accept($0, model)
                })
            note("listener \(model.number) at \(model.port)")
            listeners.append(model)
        } catch {
            overseer.report("listen threw \(error)")
        }
    }

    private func actOnListener() {
        guard !listeners.isEmpty else { return listen() }
        let listener = listeners[tape.next(below: listeners.count)]
        switch tape.next(below: 16) {
        case 0, 1: listener.pause()
        case 2...4: listener.resume()
        case 5: listener.close()
        case 6:
            for each in connections { each.drains() }
            listener.drain(milliseconds: tape.next(below: 4))
        case 7: listener.drop()
        case 8: listener.setCallbacks(tape.chance(3, of: 4))
        case 9: listen()
        case 10...13:
            let ways: [Listener.WhenSaturated] = [.skip, .write, .reset]
            let except = tape.chance(1, of: 2) ? anyConnection() : nil
            listener.broadcast([1] + bytes(), except: except, ways[tape.next(below: 3)])
        default: listener.look()
        }
    }
}
