import Dispatch
import Synchronization

@_spi(Engine) @testable import CallbackModel

/// A loop of which the test is the kernel: the clock stands until it is moved, and nothing happens by itself.
final class ScriptedLoop: LoopDriver {
    private(set) var milliseconds: UInt64 = 1_000
    private var timers: [ScriptedTimer] = []
    private var closing: [ScriptedStream] = []
    private var isTurnRequested = false

    // What a test of connecting scripts and looks at.
    private let resolver = ScriptedResolver()
    /// What `connect` answers for an address; in progress if nothing is said.
    var outcomes: [SocketAddress: ConnectOutcome] = [:]
    /// Addresses for which there can be no socket.
    var unmakeable: [SocketAddress: Int32] = [:]
    /// The streams that were made, in their order, with the addresses they were made for.
    private(set) var made: [(address: SocketAddress, stream: ScriptedStream)] = []

    override var cachedMilliseconds: UInt64 { milliseconds }
    override var nanoseconds: UInt64 { milliseconds * 1_000_000 }
    /// Whether the model has asked for something while it was being let go.
    private(set) var isAskedTooLate = false
    private var isShutDown = false

    override func hold(_ isHeld: Bool) { if isShutDown { isAskedTooLate = true } }
    override var wake: @Sendable () -> Void { { [resolver] in resolver.woken.signal() } }
    override func requestTurn() { isTurnRequested = true }

    override func makeTimer() -> TimerDriver {
        let timer = ScriptedTimer()
        timers.append(timer)
        return timer
    }

    /// What a turn begins with, then the closes.
    func turn() {
        if isTurnRequested {
            isTurnRequested = false
            requestedTurnBegan()
        }
        let closed = closing
        closing = []
        for stream in closed { stream.closed() }
    }

    /// Moves the clock and fires what is due, the earliest first.
    func advance(to time: UInt64) {
        milliseconds = time
        while let next = timers.filter({ $0.deadline <= time }).min(by: { $0.deadline < $1.deadline }) {
            next.deadline = .max
            next.fired()
        }
        turn()
    }

    /// Names are from now on asked for here.
    func takeOverResolver() {
        core?.lookUps.resolver = { [resolver] _ in resolver.ask() }
    }

    /// The resolver answers what it was asked first; it was asked, or this waits until it is.
    func answer(_ result: Result<[SocketAddress], IOError>) {
        resolver.asked.wait()
        resolver.answer(result)
        resolver.woken.wait()
        woken()
    }

    /// Returns when a thread has begun a look-up; `answer` must follow.
    func waitUntilAsked() {
        resolver.asked.wait()
        resolver.asked.signal()
    }

    override func makeStream(
        for address: SocketAddress, from local: SocketAddress?, options: Connection.Options
    ) throws(IOError) -> StreamDriver {
        if let errno = unmakeable[address] { throw IOError(call: "socket", errno: errno, address: address) }
        let stream = ScriptedStream(self)
        stream.outcome = outcomes[address] ?? .inProgress
        made.append((address, stream))
        return stream
    }

    func forgetMade() { made = [] }

    func willClose(_ stream: ScriptedStream) { closing.append(stream) }

    override func shutDown() {
        isShutDown = true
        while !closing.isEmpty { turn() }
    }

    /// A connection with a scripted stream, open.
    func connect(_ change: (inout Connection.Options) -> Void = { _ in }) -> (Connection, ScriptedStream) {
        let stream = ScriptedStream(self)
        var options = Connection.Options()
        change(&options)
        let connection = Connection(
            core: core!, driver: stream, listener: nil, remoteAddress: .unnamed, options: .init(options))
        connection.begin()
        return (connection, stream)
    }
}

/// A timer that fires when `ScriptedLoop.advance` says so.
final class ScriptedTimer: TimerDriver {
    var deadline = UInt64.max

    override func start(deadline: UInt64) { self.deadline = deadline }
    override func stop() { deadline = .max }
    override func setReferenced(_ referenced: Bool) {}
    override func close() { deadline = .max }
}

/// A stream that keeps what it is given: each element of `sent` is one system call.
final class ScriptedStream: StreamDriver {
    private(set) var sent: [[UInt8]] = []
    /// Of those the arrays that it could keep.
    private(set) var kept: [[UInt8]] = []
    private unowned let loop: ScriptedLoop
    private(set) var isClosed = false
    private(set) var isReset = false
    private(set) var isFinished = false
    private(set) var isReading = false
    /// A positive errno that the next send answers.
    var failure: Int32?
    /// What `connect` answers.
    var outcome = ConnectOutcome.inProgress

    init(_ loop: ScriptedLoop) { self.loop = loop }

    override var descriptor: Int32 { isClosed ? -1 : 3 }
    override var localAddress: SocketAddress? { nil }
    override var queuedByteCount: Int { queued }
    /// How many bytes of the writes are still queued after the next one.
    var queued = 0
    // What the kernel says at a passed time-out.
    override var hasInput: Bool { input }
    var input = false
    override var hasRoom: Bool { room }
    var room = false
    override var hasUnacknowledged: Bool { unacknowledged }
    var unacknowledged = false
    override var sendProgress: SendProgress? { progress }
    var progress: SendProgress?
    override func startReading() { isReading = true }
    override func stopReading() { isReading = false }
    override func finish() { isFinished = true }
    override func connect(to address: SocketAddress) -> ConnectOutcome { outcome }

    override func send(_ bytes: Span<UInt8>) -> Int {
        if let failure { return -Int(failure) }
        sent.append(bytes.withUnsafeBufferPointer { Array($0) })
        return queued
    }

    override func send(keeping bytes: [UInt8]) -> Int {
        kept.append(bytes)
        return send(bytes.span)
    }

    override func close(resetting: Bool) {
        isClosed = true
        isReset = resetting
        loop.willClose(self)
    }
}

/// A resolver that answers what the test says; it is asked on a thread of the pool, which waits for that.
private final class ScriptedResolver: Sendable {
    let asked = DispatchSemaphore(value: 0)
    let woken = DispatchSemaphore(value: 0)
    private let answered = DispatchSemaphore(value: 0)
    private let answers = Mutex<[Result<[SocketAddress], IOError>]>([])

    func ask() -> Result<[SocketAddress], IOError> {
        asked.signal()
        answered.wait()
        return answers.withLock { $0.removeFirst() }
    }

    func answer(_ result: Result<[SocketAddress], IOError>) {
        answers.withLock { $0.append(result) }
        answered.signal()
    }
}
