/// The driver of a connection to a host. It queues what is written until an address has answered, and then passes
/// everything on to the driver of that attempt. A stand-in that stays: swift.md 10.
@safe final class HostStream: StreamDriver {
    private let core: LoopCore
    private let race: HostRace
    private var state = State.racing
    private var queue: [UInt8] = []

    private enum State {
        /// No address has answered.
        case racing
        /// An attempt has opened: its driver is read from, and what is written still waits.
        case elected(StreamDriver)
        /// That driver has what was queued, and gets what is written.
        case begun(StreamDriver)
    }

    private var elected: StreamDriver? {
        switch state {
        case .racing: nil
        case .elected(let driver), .begun(let driver): driver
        }
    }

    private var winner: StreamDriver? { if case .begun(let driver) = state { driver } else { nil } }

    init(core: LoopCore, race: HostRace) {
        self.core = core
        self.race = race
    }

    /// From now on it is read from `driver`; what is written still waits for `begin`.
    func elect(_ driver: StreamDriver) {
        state = .elected(driver)
    }

    /// Gives what was queued to the driver that has won. It tells the connection directly.
    func begin(for connection: Connection) {
        let queued = queue
        queue = []
        // `onOpen` may have ended it.
        guard let elected, !connection.isOver else { return }
        state = .begun(elected)
        connection.setQueuedByteCount(connection.layer?.held.count ?? 0)
        if !queued.isEmpty { connection.handOverRaw(keeping: queued) }
        if connection.output == .ending, connection.isOutputFinished { elected.finish() }
        // Closed before it was open, and the kernel has taken everything.
        connection.closeIfFlushed()
    }

    override var descriptor: Int32 { elected?.descriptor ?? -1 }
    override var localAddress: SocketAddress? { elected?.localAddress }
    override var queuedByteCount: Int { winner?.queuedByteCount ?? queue.count }
    override var loss: Int32? { elected?.loss }
    override var hasInput: Bool { elected?.hasInput ?? false }
    /// Before an address has answered: whether one of the attempts is decided, and the loop has not looked yet.
    override var hasRoom: Bool { elected?.hasRoom ?? race.hasDecidedAttempt }
    override var hasUnacknowledged: Bool { elected?.hasUnacknowledged ?? false }
    override var sendProgress: SendProgress? { winner?.sendProgress }
    override func startReading() { elected?.startReading() }
    override func stopReading() { elected?.stopReading() }

    override func send(_ bytes: Span<UInt8>) -> Int {
        if let winner { return winner.send(bytes) }
        queue.append(copying: bytes)
        return queue.count
    }

    override func send(keeping bytes: [UInt8]) -> Int {
        winner?.send(keeping: bytes) ?? send(bytes.span)
    }

    /// Before that, `begin` does it.
    override func finish() { winner?.finish() }

    override func close(resetting: Bool) {
        if let elected { return elected.close(resetting: resetting) }
        race.finish()
        queue = []
        core.putOff(.closed(self))
    }
}
