/// The driver of a connection to a host: it queues what is written until an address has answered, and then passes
/// everything on to the driver of the attempt that did.
///
/// A stand-in that stays, since a connection whose driver can change would retain it for every message.
@safe final class HostStream: StreamDriver {
    private let core: LoopCore
    private let race: HostRace
    /// The driver of the attempt that has opened.
    private var elected: StreamDriver?
    /// The same, once it has what was queued.
    private var winner: StreamDriver?
    private var queue: [UInt8] = []
    private var isFinishing = false

    init(core: LoopCore, race: HostRace) {
        self.core = core
        self.race = race
    }

    /// From now on it is read from `driver`; what is written still waits for `begin`.
    func elect(_ driver: StreamDriver) {
        elected = driver
    }

    /// Gives what was queued to the driver that has won. It tells the connection directly.
    func begin(for connection: Connection) {
        defer { queue = [] }
        // `onOpen` may have ended it.
        guard let elected, connection.lifecycle != .closing, connection.lifecycle != .closed else { return }
        winner = elected
        connection.setQueuedByteCount(0)
        if !queue.isEmpty { connection.handOver(keeping: queue) }
        if isFinishing { elected.finish() }
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
        unsafe bytes.withUnsafeBufferPointer { unsafe queue.append(contentsOf: $0) }
        return queue.count
    }

    override func send(keeping bytes: [UInt8]) -> Int {
        winner?.send(keeping: bytes) ?? send(bytes.span)
    }

    override func finish() {
        isFinishing = true
        winner?.finish()
    }

    override func close(resetting: Bool) {
        if let elected { return elected.close(resetting: resetting) }
        race.finish()
        queue = []
        core.putOff(.closed(self))
    }
}
