/// A listener of all loops of a group; made by ``EventLoop/Group/listen(on:options:distribution:_:)``.
///
/// It belongs to the group's first loop: its callbacks run there, and its methods are called there. The group owns it
/// while it is open. ``Connection/listener`` is the part of it that the connection's own loop has. What is
/// done to that part concerns that loop alone.
public final class GroupListener {
    /// The address the kernel bound; a port of 0 has become the port it chose.
    public let localAddress: SocketAddress
    /// How clients are spread.
    public let distribution: EventLoop.Group.Distribution

    /// Clients were turned away by any of the loops. Runs on the group's first loop.
    public var onShed: ((GroupListener, Listener.Shed) -> Void)?
    /// Accepting failed on any of the loops, as in ``Listener/onError``. Runs on the group's first loop.
    public var onError: ((GroupListener, IOError) -> Void)?
    /// No loop listens any more. Runs once, after ``close()``, on the group's first loop.
    public var onClose: ((GroupListener) -> Void)?

    /// How many connections are open on all loops together.
    public var connectionCount: Int { connectionCounts.reduce(0, +) }
    /// How many connections are open on each loop.
    public var connectionCounts: [Int] { members.map { places.count(of: $0.index) } }

    let number: Int
    weak var group: EventLoop.Group?
    let core: LoopCore
    let members: [EventLoop.Group.Member]
    let places: Places
    let door: LoopBound<GroupListenerDoor>
    /// The listening sockets, one or one a loop. The first loop has them, paused, so that they outlive the other loops.
    /// It accepts from one to hand its clients over: with ``EventLoop/Group/Distribution/evenly``, or when the loop has
    /// ended that the kernel gives its clients to.
    let sockets: [Listener]
    /// The sockets that the first loop accepts from.
    var accepting: [Listener] = []
    var state = State.open
    private var openSocketCount: Int
    var isPaused = false
    /// The loops that listen, or are handed clients.
    var openLoops: Set<Int> = []
    /// The loop that was given the last client.
    var lastLoop = -1
    private var hold: EventLoop.Hold?
    var drain: Drain?
    var drainCount = 0

    enum State {
        case open
        /// By ``close()``, by a drain, or since no loop is left.
        case closing
        /// `onClose` has run. Connections may be open.
        case closed
    }

    init(
        _ group: EventLoop.Group, number: Int, on address: SocketAddress, options: Listener.Options,
        _ distribution: EventLoop.Group.Distribution
    ) throws(IOError) {
        let door = GroupListenerDoor()
        let bound = LoopBound(door, on: group.loop)
        let core = group.loop.core
        let places = Places(limit: options.maxConnections, loops: group.members.count) {
            bound.execute { $0.listener?.placeIsFree() }
        }
        sockets = try Self.makeSockets(group, address, options, distribution) {
            let handOver: (Int32, SocketAddress) -> Void = { descriptor, peer in
                let client = PassedSocket(descriptor, isClient: true)
                if let listener = door.listener { listener.serve(client, peer) } else { places.free() }
            }
            return GroupPart(places: places, index: nil, handOver: handOver) { event in door.listener?.happened(event) }
        }
        localAddress = sockets[0].localAddress
        openSocketCount = sockets.count
        self.group = group
        self.number = number
        self.distribution = distribution
        self.core = core
        self.places = places
        self.door = bound
        members = group.members
        hold = group.loop.hold()
        door.listener = self
    }

    /// Paused: the first loop accepts no client before every loop is ready.
    private static func makeSockets(
        _ group: EventLoop.Group, _ address: SocketAddress, _ options: Listener.Options,
        _ distribution: EventLoop.Group.Distribution, _ makePart: () -> GroupPart
    ) throws(IOError) -> [Listener] {
        let core = group.loop.core
        var (options, address) = (options, address)
        if distribution == .byKernel {
            guard address.port != nil else {
                throw .invalid("listen", "only TCP spreads clients by the kernel, not \(address)")
            }
            options.reusePort = true
        }
        var sockets: [Listener] = []
        do throws(IOError) {
            for _ in 0..<(distribution == .byKernel ? group.members.count : 1) {
                let socket = try Listener(core: core, options: options, part: makePart(), onConnection: { _ in }) {
                    () throws(IOError) in
                    try core.driver.makeListener(on: address, options: options)
                }
                socket.pause()
                sockets.append(socket)
                address = socket.localAddress
            }
        } catch {
            for socket in sockets { socket.close() }
            throw error
        }
        return sockets
    }

    /// Leaves new clients in the kernel's backlog until ``resume()``.
    public func pause() {
        core.assertThread("GroupListener.pause")
        guard state == .open else { return }
        isPaused = true
        for socket in accepting { socket.pause() }
        onEachLoop { $0.pause() }
    }

    /// Accepts again after ``pause()``.
    public func resume() {
        core.assertThread("GroupListener.resume")
        guard state == .open else { return }
        isPaused = false
        for socket in accepting { socket.resume() }
        onEachLoop { $0.resume() }
    }

    /// Stops listening on every loop. Open connections stay open. A loop that hangs listens until it answers.
    public func close() {
        core.assertThread("GroupListener.close")
        guard state != .closed else { return }
        closeSockets()
        onEachLoop { $0.close() }
    }

    // MARK: The end

    func closeSockets() {
        if state == .open { state = .closing }
        for socket in sockets { socket.close() }
    }

    /// What has happened to a socket of the first loop.
    private func happened(_ event: GroupPart.Event) {
        switch event {
        case .shed(let shed): tell(shed)
        case .failed(let error): tell(error)
        case .closed:
            openSocketCount -= 1
            goOn()
        }
    }

    func tell(_ shed: Listener.Shed) {
        if let onShed { core.performOnce(.shed) { onShed(self, shed) } }
    }

    func tell(_ error: IOError) {
        if let onError { core.performOnce(.error) { onError(self, error) } }
    }

    /// Tells what is over, and ends if nothing is left to wait for.
    func goOn() {
        if let drain, drain.isBegun, drain.waiting.isEmpty { endDrain() }
        if state == .closing, openSocketCount == 0, openLoops.isEmpty {
            state = .closed
            if let onClose { core.performOnce(.close) { onClose(self) } }
        }
        guard state == .closed, drain == nil, let hold, hold.isHeld else { return }
        // Not the number alone: a place may be reserved by a loop that finds no client for it.
        guard places.count == 0 else { return places.awaitEnd() }
        hold.release()
        letGo(of: (onShed, onError, onClose)) {
            onShed = nil
            onError = nil
            onClose = nil
        }
        for member in members { member.door.execute { [number] in $0.listeners[number] = nil } }
        group?.listeners[number] = nil
    }

    /// The group is let go.
    func abandon() {
        drain?.timer?.cancel()
        letGo(of: (drain, onShed, onError, onClose)) {
            drain = nil
            onShed = nil
            onError = nil
            onClose = nil
        }
        closeSockets()
        hold?.release()
    }
}
