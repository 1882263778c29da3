internal import CLinux
internal import Glibc

// What the first loop says to the others, and they to it.

extension GroupListener {
    /// Makes every loop listen, and waits for that. Throws the first error of a loop.
    func begin(
        _ options: Listener.Options, _ onLoop: @escaping @Sendable (EventLoop) -> (Connection) -> Void
    ) throws(IOError) {
        let answers = Answers<IOError?>(count: members.count)
        for member in members {
            let index = member.index
            let socket: PassedSocket?
            switch distribution {
            case .evenly: socket = nil
            case .shared: socket = try duplicate(sockets[0])
            case .byKernel: socket = try duplicate(sockets[index])
            }
            let role = GroupRole(number: number, index: index, places: places, door: door)
            let isAsked = member.door.execute { [localAddress] loop in
                do throws(IOError) {
                    try loop.join(role, socket, localAddress, options, onLoop(loop.loop))
                    answers.give(nil, of: index)
                } catch {
                    answers.give(error, of: index)
                }
            }
            if isAsked { openLoops.insert(index) } else { answers.give(nil, of: index) }
        }
        for answer in answers.wait(atMost: EventLoop.Group.answerLimit) {
            guard let answer else { throw .invalid("listen", "a loop of the group does not answer", errno: ETIMEDOUT) }
            if let error = answer { throw error }
        }
        if distribution == .evenly { accept(from: sockets[0]) }
    }

    private func accept(from socket: Listener) {
        accepting.append(socket)
        if !isPaused { socket.resume() }
    }

    /// A descriptor of its own for the same listening socket.
    private func duplicate(_ socket: Listener) throws(IOError) -> PassedSocket {
        let descriptor = linux_duplicate(socket.driver.descriptor)
        guard descriptor >= 0 else { throw IOError(call: "fcntl", errno: errno, address: localAddress) }
        return PassedSocket(descriptor, isClient: false)
    }

    func onEachLoop(_ body: @escaping @Sendable (Listener) -> Void) {
        for index in openLoops { on(index, body) }
    }

    /// Runs `body` with the part of this listener that a loop has.
    @discardableResult
    private func on(_ index: Int, _ body: @escaping @Sendable (Listener) -> Void) -> Bool {
        members[index].door.execute { [number] loop in
            if let listener = loop.listeners[number] { body(listener) }
        }
    }

    /// A loop of the group has ended, and its connections are closed.
    func loopEnded(_ index: Int) {
        openLoops.remove(index)
        if state == .open, distribution == .byKernel, !openLoops.isEmpty { accept(from: sockets[index]) }
        drained(index, DrainReport(), of: drain?.number)
        goOn()
    }

    /// Nobody can close this part any more.
    func partClosed(_ index: Int) {
        openLoops.remove(index)
        goOn()
    }

    // MARK: Clients

    /// Gives an accepted client to the loop that has the fewest connections. If that one has just ended, the client
    /// comes back.
    func serve(_ client: PassedSocket, _ peer: SocketAddress) {
        guard let index = nextLoop() else { return places.free() }
        lastLoop = index
        places.occupy(on: index)
        let handOver = HandOver(client, peer, to: index) { [door] client, peer, index in
            door.execute { $0.listener?.comeBack(client, peer, from: index) }
        }
        members[index].door.execute { [number] loop in
            // Not received, it goes back.
            _ = loop.listeners[number]?.receive(handOver)
        }
    }

    private func comeBack(_ client: PassedSocket, _ peer: SocketAddress, from index: Int) {
        openLoops.remove(index)
        places.vacate(on: index)
        serve(client, peer)
    }

    /// The loop with the fewest connections, in turn if several have as few. One that hangs only if all do.
    private func nextLoop() -> Int? {
        let watch = group?.watch
        let living = openLoops.filter { watch?.isHanging($0) != true }
        let count = members.count
        return (living.isEmpty ? openLoops : living).min { left, right in
            let (leftCount, rightCount) = (places.count(of: left), places.count(of: right))
            if leftCount != rightCount { return leftCount < rightCount }
            return (left - lastLoop - 1 + count) % count < (right - lastLoop - 1 + count) % count
        }
    }

    func placeIsFree() {
        if state == .open || drain != nil {
            for socket in accepting { socket.placeIsFree() }
            if distribution != .evenly { onEachLoop { $0.placeIsFree() } }
        }
        goOn()
    }

    func shed(_ shed: Listener.Shed) {
        if let onShed { core.perform(.shed) { onShed(self, shed) } }
    }

    func failed(_ error: IOError) {
        if let onError { core.perform(.error) { onError(self, error) } }
    }
}

/// What the other loops name a group's listener by.
final class GroupListenerDoor {
    weak var listener: GroupListener?
}

/// What a loop needs to know to listen for its group.
struct GroupRole: Sendable {
    /// The number of the listener in its group, and of the loop.
    let number: Int
    let index: Int
    let places: Places
    let door: LoopBound<GroupListenerDoor>
}

extension GroupLoop {
    /// Listens on `socket`, or is handed clients if that is `nil`.
    func join(
        _ role: GroupRole, _ socket: PassedSocket?, _ address: SocketAddress, _ options: Listener.Options,
        _ onConnection: @escaping (Connection) -> Void
    ) throws(IOError) {
        let core = loop.core
        var options = options
        // Who accepts keeps to the limit.
        if socket == nil { options.maxConnections = nil }
        let part = GroupPart(places: role.places, index: role.index)
        let listener = try Listener(core: core, options: options, part: part, onConnection: onConnection) {
            () throws(IOError) in
            guard let socket else { return HandedListener(core: core, address: address) }
            let descriptor = socket.take()
            do throws(IOError) {
                return try core.driver.adoptListener(descriptor, options: options)
            } catch {
                Glibc.close(descriptor)
                throw error
            }
        }
        let (door, index) = (role.door, role.index)
        listener.onShed = { _, shed in door.execute { $0.listener?.shed(shed) } }
        listener.onError = { _, error in door.execute { $0.listener?.failed(error) } }
        listener.onClose = { _ in door.execute { $0.listener?.partClosed(index) } }
        listeners[role.number] = listener
    }
}
