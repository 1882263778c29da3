import CLinux
@_spi(Engine) import CallbackModel
import Glibc

/// A connected socket of `BreakableLoop`.
final class BreakableStream: StreamDriver {
    private let loop: BreakableLoop
    private let number: Int32
    private var isOpen = true
    private var isReading = false
    private var isConnecting = false
    private var isPoisoned = false
    private var isFinishing = false
    private var queue: [UInt8] = []
    private var buffer = [UInt8](repeating: 0, count: BreakableLoop.bufferSize)

    private static let readsPerTurn = 32

    init(_ loop: BreakableLoop, _ descriptor: Int32, _ options: Connection.Options) {
        self.loop = loop
        number = descriptor
        super.init()
        if loop.bug == .urgentDataIsInline { set(SOL_SOCKET, SO_OOBINLINE, 1) }
        guard loop.bug != .optionsAreNotApplied else { return }
        if let size = options.sendBufferSize { set(SOL_SOCKET, SO_SNDBUF, Int32(size)) }
        if let size = options.receiveBufferSize { set(SOL_SOCKET, SO_RCVBUF, Int32(size)) }
        if options.noDelay { set(Int32(IPPROTO_TCP), TCP_NODELAY, 1) }
        if let keepAlive = options.keepAlive {
            set(SOL_SOCKET, SO_KEEPALIVE, 1)
            set(Int32(IPPROTO_TCP), TCP_KEEPIDLE, keepAlive.idleSeconds)
        }
    }

    private func set(_ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(number, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    private var bug: PlantedBug? { loop.bug }

    var wanted: Int32 {
        let reads = isReading || bug == .pausedDataIsDropped
        return (reads && !isConnecting ? POLLIN | 0x2000 : 0) | (!queue.isEmpty || isConnecting ? POLLOUT : 0)
    }

    override var descriptor: Int32 { isOpen ? number : -1 }
    override var localAddress: SocketAddress? { isOpen ? socketName(number) : nil }
    override var queuedByteCount: Int { queue.count }

    // MARK: Events

    func becameReady(_ events: Int32) {
        if isConnecting {
            if events & (POLLOUT | POLLERR | POLLHUP) != 0 { connected() }
            return
        }
        let hasEnded = events & 0x2000 != 0
        if bug == .endComesBeforeData, isReading, hasEnded { return ended() }
        if bug == .hangUpComesBeforeData, isReading, events & POLLHUP != 0 { return ended() }
        if events & (POLLIN | POLLERR | POLLHUP | 0x2000) != 0, isReading || bug == .pausedDataIsDropped { read() }
        if isOpen, events & (POLLOUT | POLLERR | POLLHUP) != 0, !queue.isEmpty { sendQueue() }
    }

    /// An event of the number's former owner.
    func becameReadyBlindly() {
        let count = recv(number, &buffer, buffer.count, 0)
        if count < 0 { readFailed(IOError(call: "recv", errno: errno)) }
    }

    private func ended() {
        isReading = false
        if bug == .endIsDropped { return }
        if bug == .endOfInputEndsOutput { shutdown(number, Int32(SHUT_WR)) }
        reachedEnd()
    }

    private func read() {
        var reads = 0
        while isOpen, isReading || bug == .pausedDataIsDropped, reads < Self.readsPerTurn || bug == .readsHaveNoLimit {
            reads += 1
            let isInterrupted = loop.isInterrupted()
            if isInterrupted, bug == .interruptedReadIsFatal { return readFailed(IOError(call: "recv", errno: EINTR)) }
            if isInterrupted { continue }
            let count = recv(number, &buffer, buffer.count, 0)
            switch count {
            case 0: return ended()
            case ..<0:
                if errno == EAGAIN {
                    if bug == .emptyReadIsDelivered { deliver(0) }
                    return
                }
                if errno == EINTR { continue }
                if bug == .readErrorIsIgnored { return }
                if bug == .resetIsTakenForTheEnd { return ended() }
                return readFailed(IOError(call: "recv", errno: errno))
            default:
                let lost = bug == .readBufferIsCutShort && count == buffer.count ? 1 : 0
                deliver(count - lost)
            }
        }
    }

    private func deliver(_ count: Int) {
        let piece = Array(buffer[..<count])
        received(piece.span)
    }

    override func startReading() { isReading = true }
    override func stopReading() { isReading = false }

    // MARK: Writing

    override func send(_ bytes: Span<UInt8>) -> Int {
        if bug == .bytesGoToTheOtherConnection, bytes.count == 2, let other = loop.another(than: self) {
            _ = other.transmit(bytes.withUnsafeBytes { Array($0) })
            return 0
        }
        if isPoisoned { return -Int(EPIPE) }
        let all = bytes.withUnsafeBytes { Array($0) }
        if isConnecting || !queue.isEmpty {
            queue = bug == .queuedWritesAreSwapped ? all + queue : queue + all
            return queue.count
        }
        let sent = transmit(all)
        if sent < 0 {
            if bug == .writeErrorIsIgnored { return 0 }
            isPoisoned = true
            return sent
        }
        if sent < all.count, bug == .shortWriteIsTakenAsWhole { return 0 }
        queue = sent == all.count ? [] : bug == .shortWriteIsSentAgain ? all : Array(all[sent...])
        if bug == .completionIsToldInsideTheWrite { queueShrank(to: queue.count) }
        return queue.count
    }

    /// How many bytes have left, or a negative errno.
    private func transmit(_ bytes: [UInt8]) -> Int {
        let count = Glibc.send(number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        if count >= 0 { return count }
        let isInterrupted = errno == EINTR && bug != .interruptedWriteIsFatal
        return errno == EAGAIN || isInterrupted ? 0 : -Int(errno)
    }

    private func sendQueue() {
        let sent = transmit(queue)
        if sent < 0 {
            queue = []
            isPoisoned = true
            return queueFailed(IOError(call: "send", errno: Int32(-sent)))
        }
        queue.removeFirst(sent)
        if bug != .drainIsNeverTold { queueShrank(to: queue.count) }
        if isFinishing, queue.isEmpty { sendEnd() }
    }

    override func finish() {
        guard !isPoisoned, !isFinishing else { return }
        isFinishing = true
        if bug == .finComesBeforeTheQueue { queue = [] }
        if queue.isEmpty, !isConnecting { sendEnd() }
    }

    private func sendEnd() {
        isFinishing = false
        isPoisoned = true
        let isLost = bug != .finIsNeverSent && shutdown(number, Int32(SHUT_WR)) != 0
        // Told later: the model is in the middle of asking for it.
        loop.tellLater { [self] in
            if isOpen { outputEnded(isLost ? IOError(call: "shutdown", errno: ECONNRESET) : nil) }
        }
    }

    // MARK: Connecting and closing

    override func connect(to address: SocketAddress) -> ConnectOutcome {
        let error = address.withSockaddr { Glibc.connect(number, $0, $1) == 0 ? 0 : errno }
        if error == 0 { return .connected }
        guard error == EINPROGRESS else { return .failed(IOError(call: "connect", errno: error)) }
        isConnecting = true
        return .inProgress
    }

    private func connected() {
        isConnecting = false
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(number, SOL_SOCKET, SO_ERROR, &error, &length)
        if error != 0, bug != .refusedConnectionOpens {
            return connectFailed(IOError(call: "connect", errno: error))
        }
        opened()
        if isOpen, isFinishing, queue.isEmpty { sendEnd() }
    }

    override var loss: Int32? {
        guard isOpen else { return nil }
        var entry = pollfd(fd: number, events: 0, revents: 0)
        return poll(&entry, 1, 0) == 1 && Int32(entry.revents) & POLLERR != 0 ? ECONNRESET : nil
    }

    override var hasInput: Bool { isReady(for: POLLIN) }
    override var hasRoom: Bool { isReady(for: POLLOUT) }
    override var hasUnacknowledged: Bool { false }
    /// Slow peers are not what this engine is broken for.
    override var sendProgress: SendProgress? { nil }

    private func isReady(for event: Int32) -> Bool {
        var entry = pollfd(fd: number, events: Int16(event), revents: 0)
        return isOpen && poll(&entry, 1, 0) == 1
    }

    override func close(resetting: Bool) {
        guard isOpen else { return }
        isOpen = false
        isPoisoned = true
        queue = []
        loop.leave(number)
        if resetting, bug != .resetIsAPlainClose {
            var value = linger(l_onoff: 1, l_linger: 0)
            setsockopt(number, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
        }
        if bug != .descriptorIsLeaked { Glibc.close(number) }
        loop.tellLater { self.closed() }
    }
}

final class BreakableListener: ListenerDriver {
    private let loop: BreakableLoop
    private let number: Int32
    private let options: Listener.Options
    private let address: SocketAddress
    private(set) var isAccepting = false
    private var isOpen = true
    private var hasSlept = false
    private var acceptCount = 0

    init(_ loop: BreakableLoop, _ descriptor: Int32, _ options: Listener.Options, _ address: SocketAddress) {
        self.loop = loop
        number = descriptor
        self.options = options
        self.address = address
    }

    override var descriptor: Int32 { isOpen ? number : -1 }

    override var localAddress: SocketAddress { address }

    override func resume() {
        if loop.bug == .resumedListenerSleeps, hasSlept { return }
        isAccepting = true
    }

    override var hasWaitingClients: Bool {
        var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
        return isOpen && poll(&entry, 1, 0) == 1
    }

    override func pause() {
        isAccepting = false
        hasSlept = true
    }

    func becameReady() {
        var refused = 0
        for _ in 0..<options.acceptsPerWakeup {
            let admission = admission
            guard admission != .stop, isOpen else { break }
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let client = withUnsafeMutablePointer(to: &storage) { storage in
                storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { linux_accept4(number, $0, &length) }
            }
            if client < 0, loop.bug == .abortedClientEndsAccepting, errno == ECONNABORTED { isAccepting = false }
            guard client >= 0 else { break }
            acceptCount += 1
            let isLost = loop.bug == .everySecondClientIsLost && acceptCount.isMultiple(of: 2)
            if isLost || admission == .refuse {
                if !isLost { refused += 1 }
                Glibc.close(client)
                continue
            }
            let peer = SocketAddress(storage, length: length) ?? .unnamed
            accepted(loop.makeStream(client, options.connection), remoteAddress: peer)
        }
        shed(refused, .maxConnections)
        wakeUpEnded()
    }

    override func close() {
        guard isOpen else { return }
        isOpen = false
        isAccepting = false
        loop.leave(number)
        Glibc.close(number)
        if localAddress.family == .unix, options.unixCleanUp { unlink(localAddress.host) }
        loop.tellLater { self.closed() }
    }
}
