internal import CLinux
internal import Glibc

// What the first loop says to the others, and they to it.

extension GroupListener {
    /// Makes every loop listen, and waits for that. Throws the first error of a loop.
    func begin(
        _ options: Listener.Options, _ onLoop: @escaping @Sendable (EventLoop) -> (Connection) -> Void
    ) throws(IOError) {
        // Before any loop is asked: a loop that was asked has to answer before this may throw.
        let passed = try members.map { member throws(IOError) -> PassedSocket? in
            switch distribution {
            case .evenly: nil
            case .shared: try duplicate(sockets[0])
            case .byKernel: try duplicate(sockets[member.index])
            }
        }
        let answers = Answers<Joining>(count: members.count)
        for (member, socket) in zip(members, passed) {
            let role = GroupRole(number: number, index: member.index, places: places, door: door, answers)
            // The closure holds the role: a loop that ends without a call lets go of it, and so has answered.
            let isAsked = member.door.execute { [localAddress] loop in
                guard role.isWanted else { return }
                do throws(IOError) {
                    let listener = try loop.join(role, socket, localAddress, options, onLoop(loop.loop))
                    // Too late: `listen` has thrown.
                    if !role.answer(.joined) { listener.close() }
                } catch {
                    role.answer(.failed(error))
                }
            }
            if isAsked { openLoops.insert(member.index) }
        }
        var failure: IOError?
        for (index, answer) in answers.wait(atMost: EventLoop.Group.answerLimit).enumerated() {
            if case .joined? = answer { continue }
            openLoops.remove(index)
            if case .failed(let error)? = answer { failure = failure ?? error }
            if answer == nil {
                failure = .invalid("listen", "loop \(index) of the group does not answer", errno: ETIMEDOUT)
            }
        }
        if let failure {
            // A loop that has not answered keeps its socket, which would go on listening.
            for socket in passed { socket?.close() }
            throw failure
        }
        guard !openLoops.isEmpty else { throw .invalid("listen", "no loop of the group is left", errno: ECANCELED) }
        if distribution == .evenly { accept(from: sockets[0]) }
        for index in members.indices where !openLoops.contains(index) { takeOver(index) }
    }

    private func accept(from socket: Listener) {
        accepting.append(socket)
        if !isPaused { socket.resume() }
    }

    /// The kernel goes on giving clients to the socket of a loop that serves no more: the first loop hands them over.
    private func takeOver(_ index: Int) {
        guard state == .open, distribution == .byKernel, !openLoops.isEmpty else { return }
        if !accepting.contains(where: { $0 === sockets[index] }) { accept(from: sockets[index]) }
    }

    /// A descriptor of its own for the same listening socket.
    private func duplicate(_ socket: Listener) throws(IOError) -> PassedSocket {
        let descriptor = linux_duplicate(socket.driver.descriptor)
        guard descriptor >= 0 else { throw IOError(call: "fcntl", errno: errno, address: localAddress) }
        return PassedSocket(descriptor, isClient: false)
    }

    /// Runs `body` on each loop, with the part of this listener that the loop has.
    func onEachLoop(_ body: @escaping @Sendable (Listener) -> Void) {
        for index in openLoops {
            members[index].door.execute { [number] loop in
                if let listener = loop.listeners[number] { body(listener) }
            }
        }
    }

    /// A loop serves no more, and `goOn` is to follow: it has ended, or its part has closed.
    func forget(_ index: Int) {
        openLoops.remove(index)
        takeOver(index)
        if openLoops.isEmpty { closeSockets() }
    }

    /// A loop has ended, and its connections are closed.
    func loopEnded(_ index: Int) {
        forget(index)
        drain?.waiting.remove(index)
    }

    /// What has happened to the part of a loop.
    func happened(_ event: GroupPart.Event, on index: Int) {
        switch event {
        case .shed(let shed): tell(shed)
        case .failed(let error): tell(error)
        case .closed:
            forget(index)
            goOn()
        }
    }

    // MARK: Clients

    /// Gives an accepted client to the loop that has the fewest connections. If that one has just ended, the client
    /// comes back.
    func serve(_ client: PassedSocket, _ peer: SocketAddress) {
        guard let index = nextLoop() else {
            places.free()
            // Before the client is let go, which resets it.
            return tell(.invalid("accept", "no loop of the group is left to serve \(peer)", errno: ECANCELED))
        }
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
        places.vacate(on: index)
        forget(index)
        serve(client, peer)
        goOn()
    }

    /// The loop with the fewest connections, in turn if several have as few. Skips loops that hang, unless all do.
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
}

/// What the other loops name a group's listener by.
final class GroupListenerDoor {
    weak var listener: GroupListener?
}

/// What came of asking a loop to listen.
enum Joining: Sendable {
    case joined
    case failed(IOError)
    /// It has ended.
    case gone
}

/// What a loop needs to know to listen for its group.
final class GroupRole: Sendable {
    /// The number of the listener in its group, and of the loop.
    let number: Int
    let index: Int
    let places: Places
    let door: LoopBound<GroupListenerDoor>
    private let answers: Answers<Joining>

    init(
        number: Int, index: Int, places: Places, door: LoopBound<GroupListenerDoor>, _ answers: Answers<Joining>
    ) {
        self.number = number
        self.index = index
        self.places = places
        self.door = door
        self.answers = answers
    }

    deinit { answers.give(.gone, of: index) }

    /// Whether the group still waits for the loop to listen.
    var isWanted: Bool { answers.isWanted }

    /// Returns false if the group waits no more.
    @discardableResult
    func answer(_ answer: Joining) -> Bool { answers.give(answer, of: index) }
}

extension GroupLoop {
    /// Listens on `socket`, or is handed clients if that is `nil`.
    func join(
        _ role: GroupRole, _ socket: PassedSocket?, _ address: SocketAddress, _ options: Listener.Options,
        _ onConnection: @escaping (Connection) -> Void
    ) throws(IOError) -> Listener {
        let core = loop.core
        var options = options
        // Who accepts keeps to the limit.
        if socket == nil { options.maxConnections = nil }
        let (door, index) = (role.door, role.index)
        let part = GroupPart(places: role.places, index: index) { event in
            door.execute { $0.listener?.happened(event, on: index) }
        }
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
        listeners[role.number] = listener
        return listener
    }
}
