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
    private static let mostTimers = 12
    private static let mostWatchers = 2
    private static let mostErrands = 6

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

    private func anyConnection() -> CalledConnection? {
        connections.isEmpty ? nil : connections[tape.next(below: connections.count)]
    }

    // MARK: Connections

    private func actOnConnection() {
        guard let connection = anyConnection() else { return }
        switch tape.next(below: 24) {
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

    private func changedOptions() -> Connection.Options {
        var options = ChosenOptions(&tape).connection
        options.timeouts.connect = .milliseconds(1 + tape.next(below: 8))
        return options
    }

    private func add(_ kind: CalledConnection.Kind, _ connection: Connection) -> CalledConnection {
        let model = CalledConnection(connections.count, kind, connection, self)
        connections.append(model)
        return model
    }

    private var isFull: Bool { connections.count >= Self.mostConnections }

    private func accept(_ connection: Connection, _ listener: CalledListener) {
        listener.connected {
            let model = add(.accepted, connection)
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
            case 0: connection = try loop.connect(host: Self.host, port: anyPort(), options: options)
            case 1: connection = try loop.connect(to: .unix(path: "/nowhere/at all"), options: options)
            // Nobody listens there: a port below 1,024 that is nobody's, of this host.
            case 2: connection = try loop.connect(to: .ipv4(Self.host, port: 1), options: options)
            default: connection = try loop.connect(to: .ipv4(Self.host, port: anyPort()), options: options)
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
        case 0...4: peer.send(bytes())
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
                try loop.listen(on: .ipv4(Self.host, port: 0), options: options.listener) { [self] in
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
        switch tape.next(below: 12) {
        case 0, 1: listener.pause()
        case 2...4: listener.resume()
        case 5: listener.close()
        case 6:
            for each in connections { each.drains() }
            listener.drain(milliseconds: tape.next(below: 4))
        case 7: listener.drop()
        case 8: listener.setCallbacks(tape.chance(3, of: 4))
        case 9: listen()
        default: listener.look()
        }
    }

    // MARK: Timers, signals and the loop

    private func actOnTimer() {
        guard !timers.isEmpty, !tape.chance(1, of: 3) else {
            guard let loop, timers.count < Self.mostTimers else { return }
            let milliseconds = tape.next(below: 4)
            timers.append(CalledTimer(loop, milliseconds: milliseconds, isRepeating: tape.chance(1, of: 4), self))
            return
        }
        let timer = timers[tape.next(below: timers.count)]
        switch tape.next(below: 8) {
        case 0, 1: timer.cancel()
        case 2...4: timer.reschedule(milliseconds: tape.next(below: 4))
        case 5: timer.drop()
        default: timer.refer(tape.chance(1, of: 2))
        }
    }

    private func actOnWatcher() {
        guard !watchers.isEmpty else {
            guard let loop else { return }
            do throws(IOError) { watchers.append(try CalledWatcher(loop, self)) } catch { report("onSignal", error) }
            return
        }
        let watcher = watchers[tape.next(below: watchers.count)]
        switch tape.next(below: 4) {
        case 0: watcher.cancel()
        case 1: watcher.refer(tape.chance(1, of: 2))
        default: watcher.raise()
        }
    }

    private func actOnLoop() {
        guard let loop else { return }
        switch tape.next(below: 12) {
        case 0: overseer.call("stop") { loop.stop() }
        case 1, 2: execute(loop)
        case 3: offload(loop)
        case 4: resolve(loop)
        case 5...7: actOnWatcher()
        case 8: loop.onSlowCallback(longerThan: .milliseconds(1 + tape.next(below: 4))) { _ in }
        case 9: if tape.chance(1, of: 4) { letGo() }
        case 10: refuseBadOptions(loop)
        default: _ = (loop.isAlive, loop.now, loop.metrics)
        }
    }

    private func refuseBadOptions(_ loop: EventLoop) {
        var bad = Listener.Options()
        bad.connection.highWaterMark = 0
        let address = try? SocketAddress.ipv4("127.0.0.1", port: 0)
        guard let address else { return }
        if (try? loop.listen(on: address, options: bad) { _ in }) != nil { overseer.report("bad options were taken") }
        if (try? loop.connect(host: "", port: 70_000)) != nil { overseer.report("an empty host was taken") }
    }

    private func execute(_ loop: EventLoop) {
        let number = errands.give("what a waker was given")
        note("execute \(number)")
        overseer.call("execute") {
            _ = loop.waker.execute { CallMachine.current?.finish("what a waker was given", number, inOrder: true) }
        }
    }

    private func offload(_ loop: EventLoop) {
        let number = errands.give("what another thread was given")
        guard number <= Self.mostErrands else { return finishUndone("what another thread was given") }
        note("offload \(number)")
        do throws(IOError) {
            let thread = UInt(pthread_self())
            try loop.offload({ UInt(pthread_self()) }) { [self] result in
                if case .success(thread) = result { overseer.report("blocking work ran on the loop's thread") }
                finish("what another thread was given", number, inOrder: false)
            }
        } catch {
            overseer.report("offload threw \(error)")
        }
    }

    private func resolve(_ loop: EventLoop) {
        let number = errands.give("what the resolver was asked")
        guard number <= Self.mostErrands else { return finishUndone("what the resolver was asked") }
        note("resolve \(number)")
        do throws(IOError) {
            try loop.resolve(host: "127.0.0.1", port: 1) { [self] _ in
                finish("what the resolver was asked", number, inOrder: false)
            }
        } catch {
            report("resolve", error)
            finishUndone("what the resolver was asked")
        }
    }

    /// A small engine may do without names and signals, and says so with ENOSYS.
    private func report(_ call: String, _ error: IOError) {
        if error.errno != ENOSYS { overseer.report("\(call) threw \(error)") }
    }

    private func finishUndone(_ kind: String) { _ = errands.finish(kind, 0, inOrder: false) }

    private func finish(_ kind: String, _ number: Int, inOrder: Bool) {
        overseer.callback(kind) {
            if let violation = errands.finish(kind, number, inOrder: inOrder) { overseer.report(violation) }
            note("\(kind), \(number):")
            react()
        }
    }
}
