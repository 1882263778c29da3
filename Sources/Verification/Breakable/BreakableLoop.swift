import CLinux
@_spi(Engine) import CallbackModel
import Glibc
import ParityKit

/// A small engine over poll(2), for tests only: whole as it is, or with one bug.
final class BreakableLoop: LoopDriver {
    let bug: PlantedBug?
    private(set) var sources: [Int32: Source] = [:]
    private(set) var timers: [BreakableTimer] = []
    private var closing: [() -> Void] = []
    private var isHeld = false
    private var isStopped = false
    private var isTurnRequested = false
    private var clock: UInt64 = 0
    private var turns: UInt64 = 0
    private var startCount: UInt64 = 0
    private let bell: Int32
    /// Counts the calls that a signal would have interrupted: every seventh.
    private var calls = 0

    static let bufferSize = 65_536

    enum Source {
        case stream(BreakableStream)
        case listener(BreakableListener)
    }

    init(_ bug: PlantedBug? = nil) throws(IOError) {
        linux_disarm_sigpipe()
        self.bug = bug
        bell = linux_eventfd()
        guard bell >= 0 else { throw IOError(call: "eventfd", errno: errno) }
        super.init()
    }

    /// Whether this call is to be taken as interrupted, as signals do it.
    func isInterrupted() -> Bool {
        calls += 1
        return calls % 7 == 0
    }

    // MARK: The turn

    override func run(_ mode: EventLoop.RunMode) throws(IOError) {
        isStopped = false
        while isAlive, !isStopped {
            try turn(mayWait: mode != .noWait || bug == .noWaitWaits)
            if mode != .untilIdle { return }
        }
    }

    private func turn(mayWait: Bool) throws(IOError) {
        turns += 1
        clock = nanoseconds / 1_000_000
        if isTurnRequested {
            isTurnRequested = false
            requestedTurnBegan()
        }
        let events = wait(mayWait ? timeToWait : 0)
        clock = nanoseconds / 1_000_000
        for (descriptor, events, source) in events { deliver(events, descriptor, source) }
        let told = closing
        closing = []
        for tell in told { tell() }
        fireTimers()
    }

    private var timeToWait: Int32 {
        if isTurnRequested || !closing.isEmpty || isStopped || !isAlive || bug == .loopSpins { return 0 }
        guard let first = timers.compactMap(\.deadlines.first).min() else { return -1 }
        let now = nanoseconds / 1_000_000
        return first <= now ? 0 : Int32(clamping: first - now)
    }

    private func wait(_ milliseconds: Int32) -> [(Int32, Int32, Source?)] {
        var entries = [pollfd(fd: bell, events: Int16(POLLIN), revents: 0)]
        for (descriptor, source) in sources.sorted(by: { $0.key < $1.key }) {
            let wanted: Int32 =
                switch source {
                case .stream(let stream): stream.wanted
                case .listener(let listener): listener.isAccepting ? POLLIN : 0
                }
            if wanted != 0 { entries.append(pollfd(fd: descriptor, events: Int16(wanted), revents: 0)) }
        }
        guard poll(&entries, nfds_t(entries.count), milliseconds) > 0 else { return [] }
        return entries.filter { $0.revents != 0 }.map { ($0.fd, Int32($0.revents), sources[$0.fd]) }
    }

    private func deliver(_ events: Int32, _ descriptor: Int32, _ source: Source?) {
        if descriptor == bell {
            var count: UInt64 = 0
            _ = read(bell, &count, 8)
            if bug == .wakeIsLost { return }
            woken()
            return
        }
        switch (source, sources[descriptor]) {
        case (.stream(let old)?, .stream(let new)?):
            // The number may have a new owner by now: the event is not his.
            if old === new {
                new.becameReady(events)
            } else if bug == .staleEventIsDelivered {
                new.becameReadyBlindly()
            }
        case (.listener(let listener)?, _): listener.becameReady()
        default: break
        }
    }

    private func fireTimers() {
        let limit = startCount
        let early: UInt64 = bug == .timersAreEarly ? 5 : 0
        while true {
            let due = timers.filter { $0.isDue(at: clock + early, startedBefore: limit) }
            let isFirst: (BreakableTimer, BreakableTimer) -> Bool = { left, right in
                if left.deadlines[0] != right.deadlines[0] { return left.deadlines[0] < right.deadlines[0] }
                return self.bug == .equalTimersAreReversed ? left.order > right.order : left.order < right.order
            }
            guard let timer = due.min(by: isFirst) else { return }
            timer.deadlines.removeFirst()
            if timer.deadlines.isEmpty { timers.removeAll { $0 === timer } }
            timer.fired()
        }
    }

    // MARK: What the model asks

    override func stop() { if bug != .stopIsIgnored { isStopped = true } }

    private var isAlive: Bool {
        if isHeld || !closing.isEmpty { return true }
        if bug == .timersDoNotKeepTheLoop { return false }
        return timers.contains { $0.isReferenced || bug == .unreferencedTimersKeepTheLoop }
    }

    override func hold(_ isHeld: Bool) { self.isHeld = isHeld }
    override var turnCount: UInt64 { turns }
    override var nanosecondsAsleep: UInt64 { 0 }
    override var cachedMilliseconds: UInt64 { clock == 0 ? nanoseconds / 1_000_000 : clock }
    override func requestTurn() { isTurnRequested = true }

    override var nanoseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    override func shutDown() {
        while !closing.isEmpty {
            let told = closing
            closing = []
            for tell in told { tell() }
        }
        close(bell)
    }

    override var wake: @Sendable () -> Void {
        { [bell] in
            var one: UInt64 = 1
            _ = write(bell, &one, 8)
        }
    }

    override func makeTimer() -> TimerDriver { BreakableTimer(self) }

    override func makeSignal(_ number: Int32) throws(IOError) -> SignalDriver {
        throw IOError(call: "sigaction", errno: ENOSYS)
    }

    override func makeListener(
        on address: SocketAddress, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        let descriptor = socket(
            address.family.number, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        let error = address.withSockaddr { bind(descriptor, $0, $1) == 0 && listen(descriptor, 511) == 0 ? 0 : errno }
        guard error == 0 else {
            close(descriptor)
            throw IOError(call: "bind", errno: error, address: address)
        }
        let listener = BreakableListener(self, descriptor, options, socketName(descriptor) ?? address)
        sources[descriptor] = .listener(listener)
        return listener
    }

    override func adoptListener(
        _ descriptor: Int32, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        throw IOError(call: "listen", errno: EINVAL)
    }

    override func makeStream(
        for address: SocketAddress, from local: SocketAddress?, options: Connection.Options
    ) throws(IOError) -> StreamDriver {
        let descriptor = socket(
            address.family.number, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw IOError(call: "socket", errno: errno, address: address) }
        return makeStream(descriptor, options)
    }

    override func adoptStream(
        _ descriptor: Int32, options: Connection.Options
    ) throws(IOError) -> (StreamDriver, SocketAddress) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
        }
        guard status == 0, let address = SocketAddress(storage, length: length) else {
            throw IOError(call: "getpeername", errno: errno)
        }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        return (makeStream(descriptor, options), address)
    }

    func makeStream(_ descriptor: Int32, _ options: Connection.Options) -> BreakableStream {
        let stream = BreakableStream(self, descriptor, options)
        sources[descriptor] = .stream(stream)
        return stream
    }

    // MARK: What the drivers ask

    func leave(_ descriptor: Int32) { sources[descriptor] = nil }
    func tellLater(_ tell: @escaping () -> Void) { closing.append(tell) }

    /// Another open connection, for the bug that mixes them up.
    func another(than stream: BreakableStream) -> BreakableStream? {
        for case .stream(let other) in sources.values where other !== stream { return other }
        return nil
    }

    func start(_ timer: BreakableTimer) {
        startCount += 1
        timer.order = startCount
        if !timers.contains(where: { $0 === timer }) { timers.append(timer) }
    }

    func forget(_ timer: BreakableTimer) { timers.removeAll { $0 === timer } }
}

final class BreakableTimer: TimerDriver {
    private unowned let loop: BreakableLoop
    /// More than one only by a bug.
    var deadlines: [UInt64] = []
    var order: UInt64 = 0
    private(set) var isReferenced = true

    init(_ loop: BreakableLoop) { self.loop = loop }

    func isDue(at time: UInt64, startedBefore limit: UInt64) -> Bool {
        order <= limit && deadlines.first ?? .max <= time
    }

    override func start(deadline: UInt64) {
        if loop.bug != .restartedTimerKeepsItsFirstTime { deadlines = [] }
        deadlines.append(deadline)
        deadlines.sort()
        loop.start(self)
    }

    override func stop() {
        deadlines = []
        loop.forget(self)
    }

    override func setReferenced(_ referenced: Bool) { isReferenced = referenced }
    override func close() { stop() }
}

func socketName(_ descriptor: Int32) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = withUnsafeMutablePointer(to: &storage) { storage in
        storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    return status == 0 ? SocketAddress(storage, length: length) : nil
}
