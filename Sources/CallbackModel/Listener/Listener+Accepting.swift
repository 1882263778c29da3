// Which clients become connections, and what happens to the others.

extension Listener {
    /// 10 ms: short against what a person notices, long against a system call.
    static let shortestBackOff: Int64 = 10
    /// 1 s: a listener whose trouble has gone is back within it.
    static let longestBackOff: Int64 = 1_000
    /// 50 ms: at the descriptor limit clients must be served again within 100 ms of a descriptor being freed.
    static let descriptorBackOff: Int64 = 50

    /// What to do with the next client that waits.
    package enum Admission {
        case accept
        /// Accept and close it at once.
        case refuse
        case stop
    }

    /// What `ListenerDriver.admission` returns.
    var admission: Admission {
        guard state.accepts else { return .stop }
        guard let part else { return isFull ? .refuse : .accept }
        if part.reserve() { return .accept }
        // Other loops of the group have taken the last places, or have them in hand for clients that may not come.
        if options.beyondMaxConnections == .refuse { return part.places.isFullOfConnections ? .refuse : .stop }
        waitIfFull()
        return .stop
    }

    /// `maxConnections` are open: the rest waits.
    func waitIfFull() {
        guard isFull, options.beyondMaxConnections == .wait else { return }
        enter(state == .acceptingLast ? .fullWithLast : .full)
        part?.places.awaitPlace()
    }

    /// The `onClose` of a connection has run.
    func connectionLeft() {
        guard let part else { return }
        part.connectionClosed()
        placeIsFree()
    }

    /// Accepts again if it has waited for a place.
    func placeIsFree() {
        guard state == .full || state == .fullWithLast else { return }
        // Another loop of the group was faster, or has the place in hand for a client that may not come.
        if isFull { return part?.places.awaitPlace() ?? () }
        if state == .full { enter(.accepting) }
        if state == .fullWithLast { enter(.acceptingLast) }
    }

    /// What `ListenerDriver.accepted` does.
    func accepted(_ stream: StreamDriver, remoteAddress: SocketAddress) {
        guard callbacks.onConnection != nil else { return stream.close(resetting: true) }
        backOff = Self.shortestBackOff
        drain?.lastClients -= 1
        if let part, let index = part.index, part.spendPlace() { part.places.occupy(on: index) }
        begin(stream, remoteAddress: remoteAddress)
    }

    /// Makes a connection of `stream`, which is open.
    func begin(_ stream: StreamDriver, remoteAddress: SocketAddress) {
        guard let onConnection = callbacks.onConnection else { return stream.close(resetting: true) }
        let connection = Connection(
            core: core, driver: stream, listener: self, remoteAddress: remoteAddress, options: connectionOptions)
        connectionCount += 1
        waitIfFull()
        core.noteEvent()
        core.perform(.connection) { onConnection(connection) }
        connection.begin()
    }

    /// What `ListenerDriver.shed` does.
    func shed(_ count: Int, _ cause: Shed.Cause) {
        drain?.lastClients -= count
        guard count > 0 else { return }
        part?.tell(.shed(Shed(count: count, cause: cause)))
        guard let onShed else { return }
        core.perform(.shed) { onShed(self, Shed(count: count, cause: cause)) }
    }

    /// What `ListenerDriver.acceptFailed` does.
    func acceptFailed(_ error: IOError, isDescriptorLimit: Bool = false) {
        // While it drains there is no later to try again.
        if state == .acceptingLast { close() }
        guard state == .accepting else { return }
        let delay = isDescriptorLimit ? Self.descriptorBackOff : backOff
        if !isDescriptorLimit { backOff = min(2 * backOff, Self.longestBackOff) }
        enter(.backingOff)
        retry = EventLoop.Timer(core: core, interval: nil, isInternal: true) { _ in
            if self.state == .backingOff { self.enter(.accepting) }
        }
        retry?.reschedule(after: .milliseconds(delay))
        part?.tell(.failed(error))
        if let onError { core.perform(.error) { onError(self, error) } }
    }

    /// A connection closes; its `onClose` has not run yet.
    func countClose(_ reason: CloseReason, wasReset: Bool) {
        connectionCount -= 1
        // In a group `connectionLeft` frees the place: the first loop could end the program before `onClose` has run.
        if part == nil { placeIsFree() }
        drain?.report.count(reason, wasReset: wasReset)
    }
}

extension Listener {
    /// Clients that were turned away.
    public struct Shed: Hashable, Sendable {
        /// How many, exactly.
        public let count: Int
        /// Why.
        public let cause: Cause

        /// Why clients were turned away.
        public enum Cause: Hashable, Sendable {
            /// The process or the system has no descriptor left (EMFILE, ENFILE in accept(2)).
            case descriptorLimit
            /// ``Options/maxConnections`` are open.
            case maxConnections
            /// The engine cannot wait for the client's descriptor. With select(2): a number of 1,024 or more. With
            /// libuv: the number of an open connection whose descriptor the program has closed itself.
            case engineLimit
        }
    }
}
