public import CallbackModel
internal import Glibc

/// One run of a scenario, on the loop's thread: what a program gets to work with.
public final class Stage {
    /// The loop under test. Not to be used once the run is over.
    public var loop: EventLoop {
        guard let heldLoop else { trap("Stage.loop was used after the run of \(scenario.name)") }
        return heldLoop
    }

    private var heldLoop: EventLoop?

    /// The listener, once there is one.
    public private(set) var listener: Listener?

    package let scenario: Scenario
    let board: Board
    let overseer = Overseer()
    private(set) var notes: [String] = []
    private(set) var observers: [Int: ConnectionObserver] = [:]
    var players: [Int: ScriptPlayer] = [:]
    var timers: [Int: EventLoop.Timer] = [:]
    /// Where each peer listens, for those that do.
    private(set) var listeningPeers: [Int: (descriptor: Int32, address: SocketAddress)] = [:]
    /// Peers that are there to be refused or ignored.
    private var heldSockets: [PeerSocket] = []
    private var accepted = 0
    private var shed = 0
    private var open = 0

    private let transport: Transport
    private let beginsTasks: Bool
    /// On a loop of a group: what is called in the place of a look whether the run is over.
    private let ring: (@Sendable () -> Void)?

    init(
        _ scenario: Scenario, _ loop: EventLoop, _ board: Board, over transport: Transport = .plain,
        beginsTasks: Bool = false, ring: (@Sendable () -> Void)? = nil
    ) {
        self.transport = transport
        self.beginsTasks = beginsTasks
        self.ring = ring
        self.scenario = scenario
        heldLoop = loop
        self.board = board
    }

    // MARK: For programs

    /// Writes a line into the transcript.
    public func note(_ text: String) {
        notes.append(text)
    }

    /// Goes around a callback that is not a connection's: it must not run inside another one.
    public func callback<Answer>(_ name: @autoclosure () -> String, _ body: () -> Answer) -> Answer {
        overseer.callback(name(), body)
    }

    /// Listens as the scenario says; the connections of its peers are observed.
    public func listen(_ onConnection: @escaping (Connection) -> Void) throws(IOError) {
        let address = try scenario.endpoint.freshAddress()
        let listener = try transport.listen(loop, address, scenario.options) { [unowned self] connection in
            self.accept(connection, onConnection)
        }
        watch(listener)
    }

    /// The run ends when nobody comes to this listener any more.
    package func watch(_ listener: Listener) {
        listener.onShed = { [unowned self] _, shed in
            self.callback("onShed") { self.shed += shed.count }
            self.checkOver()
        }
        self.listener = listener
    }

    /// Connects to the peer with this number, which has not begun yet, and observes the connection.
    public func connect(
        to number: Int, options: EventLoop.ConnectOptions = .init(), _ prepare: (Connection) -> Void
    ) throws(IOError) {
        let address = try peerAddress(number)
        let connection = try transport.connect(loop, address, options)
        observe(connection, as: number, prepare)
    }

    /// Observes a connection as that of the peer with this number; `prepare` sets its callbacks.
    public func observe(_ connection: Connection, as number: Int, _ prepare: (Connection) -> Void) {
        let observer = makeObserver(number)
        prepare(connection)
        observer.wrap(connection)
        follow(connection)
    }

    /// Where the peer with this number listens.
    public func peerAddress(_ number: Int) throws(IOError) -> SocketAddress {
        if let (_, address) = listeningPeers[number] { return address }
        do throws(PeerFailure) {
            return try makePeer(number)
        } catch {
            throw IOError(call: error.call, errno: error.errno, detail: "the socket of peer \(number)")
        }
    }

    /// A blocking-free socket that is connected to the peer with this number, which has not begun yet: for `adopt`.
    public func connectedSocket(to number: Int) throws(IOError) -> Int32 {
        let address = try peerAddress(number)
        do throws(PeerFailure) {
            let socket = try PeerSocket(for: address, until: ContinuousClock.now + scenario.timeLimit)
            try socket.connect(to: address)
            return socket.duplicate()
        } catch {
            throw IOError(call: error.call, errno: error.errno, address: address)
        }
    }

    /// A name in the file system that nothing has, for a Unix socket.
    public func freshPath() -> String { Scenario.Endpoint.freshPath() }

    // MARK: For the run

    /// Sets up what the scenario's handler says, with callbacks.
    func begin() throws(IOError) {
        switch scenario.handler {
        case .script, .scripts, .closure: try listen(makeOnConnection())
        case .clients(let scripts):
            for (number, script) in scripts.enumerated() {
                var options = EventLoop.ConnectOptions()
                options.connection = scenario.options.connection
                try connect(to: number, options: options) { play(script, $0, as: number) }
            }
        case .program(let program): try program(self)
        }
    }

    /// What the scenario's handler does with each client, if it listens.
    func makeOnConnection() -> (Connection) -> Void {
        switch scenario.handler {
        case .script(let script): { [unowned self] in play(script, $0, as: number(of: $0)) }
        case .scripts(let scripts):
            { [unowned self] connection in
                let number = number(of: connection)
                if scripts.indices.contains(number) { play(scripts[number], connection, as: number) }
            }
        case .closure(let handler): handler(loop)
        case .clients, .program: { _ in }
        }
    }

    private func makePeer(_ number: Int) throws(PeerFailure) -> SocketAddress {
        let wanted: SocketAddress
        do throws(IOError) {
            wanted = try scenario.endpoint.freshAddress()
        } catch {
            throw PeerFailure(call: error.call, errno: error.errno)
        }
        let deadline = ContinuousClock.now + scenario.timeLimit
        let socket = try PeerSocket(for: wanted, until: deadline)
        try socket.bind(to: wanted)
        let address = try socket.localAddress()
        let reception = scenario.peers.indices.contains(number) ? scenario.peers[number].reception : .accepts
        switch reception {
        case .accepts:
            try socket.listen(backlog: 16)
            listeningPeers[number] = (socket.duplicate(), address)
        case .refuses: heldSockets.append(socket)
        case .isSilent:
            try socket.listen(backlog: 0)
            heldSockets.append(socket)
            // One more than fits: from then on SYN is dropped (listen(2), tcp_abort_on_overflow of tcp(7)).
            for _ in 0..<2 {
                let filling = try PeerSocket(for: address, until: ContinuousClock.now + .milliseconds(20))
                try? filling.connect(to: address)
                heldSockets.append(filling)
            }
        }
        return address
    }

    /// What observes the connection of the peer with this number.
    package func makeObserver(_ number: Int) -> ConnectionObserver {
        var reference: [UInt8]?
        if scenario.expected.indices.contains(number), case .prefix(let payload) = scenario.expected[number].received {
            reference = payload.bytes
        }
        let observer = ConnectionObserver(number, overseer, board, expecting: reference, beginsTasks: beginsTasks)
        if observers[number] != nil { overseer.report("connection \(number) came twice") }
        observers[number] = observer
        return observer
    }

    func accept(_ connection: Connection, _ onConnection: (Connection) -> Void) {
        guard let observer = meet(connection) else { return }
        observer.callback("onConnection") {
            onConnection(connection)
            observer.wrap(connection)
        }
        follow(connection)
    }

    /// What observes a connection that was just accepted; one that no peer has begun is reset.
    package func meet(_ connection: Connection) -> ConnectionObserver? {
        accepted += 1
        let number = number(of: connection)
        guard number >= 0 else {
            overseer.report("a connection from nobody: \(connection.remoteAddress)")
            connection.reset()
            return nil
        }
        let observer = makeObserver(number)
        if transport.opensAtOnce { observer.opened(connection) } else { observer.met(connection) }
        return observer
    }

    /// Learns when it has closed, behind its `onClose`.
    package func follow(_ connection: Connection) {
        open += 1
        let onClose = connection.onClose
        connection.onClose = { [unowned self] connection, reason in
            onClose?(connection, reason)
            self.open -= 1
            self.checkOver()
        }
    }

    /// A script's connection.
    func play(_ script: Script, _ connection: Connection, as number: Int) {
        guard let observer = observers[number] else { return }
        let player = ScriptPlayer(script, observer, self)
        players[number] = player
        player.begin(connection)
    }

    /// The number of an accepted connection's peer.
    func number(of connection: Connection) -> Int {
        let address = connection.remoteAddress
        return board.number(of: address.host) ?? board.number(of: address.description) ?? -1
    }

    /// When nobody will come any more, the listener has no reason to stay.
    func checkOver() {
        if let ring { return ring() }
        let outcomes = board.outcomes
        guard outcomes.count == scenario.peers.count, open == 0 else { return }
        let connected = scenario.peers.indices.count { board.progress(of: $0).isConnected }
        if accepted + shed >= connected || listeningPeers.count == scenario.peers.count { listener?.close() }
    }

    /// After the run: lets go of the files of Unix sockets that peers listened on, and of everything that leads back
    /// here. Returns what was written down.
    func tearDown() -> Record {
        for player in players.values { player.letGo() }
        players = [:]
        timers = [:]
        listener = nil
        for (_, address) in listeningPeers.values where scenario.endpoint == .unix { _ = unsafe unlink(address.host) }
        heldSockets = []
        // Callbacks that never ran may hold this object, which would hold the loop, which holds them.
        heldLoop = nil
        return Record(observers: observers, overseer: overseer, notes: notes)
    }

    /// What a stage leaves.
    struct Record {
        let observers: [Int: ConnectionObserver]
        let overseer: Overseer
        let notes: [String]

        /// Looks after descriptors and tasks once more; `time` says when.
        func verdict(_ time: String) -> Verdict {
            for observer in observers.values {
                observer.checkDescriptor(time)
                observer.checkTasks()
            }
            return Verdict(seen: observers.mapValues(\.seen), notes: notes, violations: overseer.violations)
        }
    }
}

extension Scenario.Endpoint {
    /// Where a listener can bind: port 0, or a file that nothing has.
    package func freshAddress() throws(IOError) -> SocketAddress {
        switch self {
        case .ipv4: try .ipv4("127.0.0.1", port: 0)
        case .ipv6: try .ipv6("::1", port: 0)
        case .unix: try .unix(path: Self.freshPath())
        }
    }

    static func freshPath() -> String { "/tmp/parity-\(getpid())-\(SplitMix.nextNumber()).sock" }
}

extension ScriptPlayer {
    /// Nothing is left to be done to the connection.
    func letGo() {
        if let connection { act([.letGo], connection) }
    }
}
