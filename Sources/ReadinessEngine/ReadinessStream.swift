@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A connected socket: read when the kernel says so, written at once while nothing is queued.
@safe final class ReadinessStream: StreamDriver {
    /// At most this many sends a turn, also to a peer that reads as fast as this side sends.
    private static let sendsPerTurn = 32

    private let loop: ReadinessLoop
    private var token: Token
    /// What the poller waits for. While empty, the descriptor is not in the poller's set.
    @safe @exclusivity(unchecked) private var interest: Readiness = []
    private var queue = WriteQueue() { didSet { updateMustQueue() } }
    @safe @exclusivity(unchecked) private var output = Output.open { didSet { updateMustQueue() } }
    /// Between connect(2) and its outcome.
    private var isConnecting = false { didSet { updateMustQueue() } }
    /// Whether `send` may not call the kernel: the three states above in one, for each message.
    @safe @exclusivity(unchecked) private var mustQueue = false

    private enum Output {
        case open
        /// FIN follows the queue.
        case finishing
        /// FIN is sent.
        case finished
        /// A send failed: nothing more leaves.
        case failed
        case closed
    }

    private func updateMustQueue() {
        mustQueue = !queue.isEmpty || output != .open || isConnecting
    }

    /// Adopts a non-blocking socket, connected or to be connected.
    init(loop: ReadinessLoop, adopting descriptor: Int32) {
        self.loop = loop
        token = Token(descriptor: descriptor, generation: 0)
        super.init()
        token = unsafe loop.enter(descriptor, .stream(.passUnretained(self)))
    }

    override var descriptor: Int32 { output == .closed ? -1 : token.descriptor }

    override var localAddress: SocketAddress? {
        output == .closed ? nil : LinuxSockets.localAddress(of: token.descriptor)
    }

    /// The loop calls this when the poller has reported the descriptor.
    func becameReady(_ readiness: Readiness) {
        // Looked at again in between: a callback of the first direction may have stopped the second.
        if readiness.contains(.readable), interest.contains(.readable) { read() }
        if readiness.contains(.writable), interest.contains(.writable) {
            if isConnecting { didConnect() } else { sendQueue() }
        }
    }

    /// Adds to what the poller waits for, or removes from it.
    private func wait(for readiness: Readiness, _ wanted: Bool) throws(IOError) {
        let new = wanted ? interest.union(readiness) : interest.subtracting(readiness)
        guard new != interest else { return }
        try loop.poller.change(token, from: interest, to: new)
        interest = new
    }

    // MARK: Connecting

    override func connect(to address: SocketAddress) -> ConnectOutcome {
        switch -Kernel.connect(token.descriptor, to: address) {
        case 0: return .connected
        case EINPROGRESS, EINTR: break
        case let error: return .failed(IOError(call: "connect", errno: error))
        }
        do throws(IOError) {
            // The socket is writable when the outcome is decided (connect(2), EINPROGRESS).
            try wait(for: .writable, true)
        } catch {
            return .failed(error)
        }
        isConnecting = true
        return .inProgress
    }

    private func didConnect() {
        isConnecting = false
        let number = pendingError(of: token.descriptor)
        if number != 0 {
            let error = IOError(call: "connect", errno: number)
            return error.isPeerReset ? openedAndLost(error) : connectFailed(error)
        }
        // Told first: completions and `onDrain` come after `onOpen` (contract clause 2).
        opened()
        // Sends what was queued meanwhile, or stops waiting for the writable socket.
        if interest.contains(.writable) { sendQueue() }
    }

    /// A refusal would be ECONNREFUSED. This connection was open before the peer reset it, and what came before the
    /// reset is read.
    private func openedAndLost(_ error: IOError) {
        output = .failed
        try? wait(for: .writable, false)
        opened()
        guard output != .closed else { return }
        // Only now, or what was queued would look sent.
        failOutput()
        queueFailed(error)
    }

    override var loss: Int32? { LinuxSockets.loss(of: descriptor) }

    override var hasInput: Bool { LinuxSockets.hasInput(descriptor) }
    override var hasRoom: Bool { LinuxSockets.hasRoom(descriptor) }
    override var hasUnacknowledged: Bool { LinuxSockets.hasUnacknowledged(descriptor) }
    override var sendProgress: SendProgress? { LinuxSockets.sendProgress(descriptor) }

    // MARK: Reading

    override func startReading() {
        guard output != .closed else { return }
        do throws(IOError) {
            try wait(for: .readable, true)
        } catch {
            readFailed(error)
        }
    }

    override func stopReading() {
        guard output != .closed else { return }
        do throws(IOError) {
            try wait(for: .readable, false)
        } catch {
            readFailed(error)
        }
    }

    /// Reads until the kernel has no more, the connection has stopped reading, or its turn is over.
    ///
    /// Only a read of 0 bytes is the end. After a hang-up or a short read there may be bytes left, or a reset.
    private func read() {
        let size = loop.readBufferSize
        let buffer = unsafe loop.readBuffer
        var reads = 0
        repeat {
            let count = unsafe Kernel.receive(token.descriptor, buffer, size)
            guard count > 0 else { return readNothing(count) }
            received(unsafe Span(_unsafeStart: buffer.assumingMemoryBound(to: UInt8.self), count: count))
            // After a short read most likely nothing is left. If something is, the next wait reports it.
            if count < size || !interest.contains(.readable) { return }
            reads &+= 1
        } while reads < loop.readsPerTurn
    }

    /// A read brought no data.
    @inline(never)
    private func readNothing(_ count: Int) {
        switch Int32(-count) {
        case 0: reachedEnd()
        case EAGAIN: return
        case let error: readFailed(IOError(call: "recv", errno: error))
        }
    }

    // MARK: Writing

    override var queuedByteCount: Int { queue.byteCount }

    override func send(_ bytes: Span<UInt8>) -> Int { send(bytes, of: nil) }

    override func send(keeping bytes: [UInt8]) -> Int { send(bytes.span, of: bytes) }

    @inline(__always)
    private func send(_ bytes: Span<UInt8>, of array: [UInt8]?) -> Int {
        if mustQueue { return enqueue(bytes, of: array, sent: 0) }
        let count = bytes.count
        let sent = unsafe bytes.withUnsafeBytes {
            unsafe Kernel.send(token.descriptor, $0.baseAddress.unsafelyUnwrapped, count)
        }
        return sent == count ? 0 : enqueue(bytes, of: array, sent: sent)
    }

    /// Queues what the kernel did not take; `sent` is what it returned.
    @inline(never)
    private func enqueue(_ bytes: Span<UInt8>, of array: [UInt8]?, sent: Int) -> Int {
        guard output == .open else { return -Int(EPIPE) }
        guard sent >= 0 || sent == -Int(EAGAIN) else {
            failOutput()
            return sent
        }
        queue.append(bytes.extracting(droppingFirst: max(0, sent)), of: array)
        do throws(IOError) {
            try wait(for: .writable, true)
        } catch {
            // Told later: returned from here, the error would say that none of these bytes has left.
            output = .failed
            loop.callLater { [self] in
                if output == .failed { sendFailed(error) }
            }
        }
        return queue.byteCount
    }

    /// From the first failure on nothing is sent, so that the peer has an exact prefix (contract clause 5).
    private func failOutput() {
        output = .failed
        queue = WriteQueue()
    }

    /// The kernel has room, or an error that the next send returns.
    private func sendQueue() {
        let before = queue.byteCount
        for _ in 0..<Self.sendsPerTurn where !queue.isEmpty {
            let sent = queue.send(to: token.descriptor)
            if sent == -Int(EAGAIN) { break }
            if sent < 0 { return sendFailed(IOError(call: "sendmsg", errno: Int32(-sent))) }
        }
        // Nothing was sent. The connection would take a call for progress, and put off the write time-out.
        if before > 0, queue.byteCount == before { return }
        if queue.isEmpty {
            do throws(IOError) {
                try wait(for: .writable, false)
            } catch {
                return sendFailed(error)
            }
        }
        queueShrank(to: queue.byteCount)
        // Last: a connection that closes with its FIN must know that its bytes have left.
        if output == .finishing, queue.isEmpty { sendFIN() }
    }

    private func sendFailed(_ error: IOError) {
        let unsent = queue.byteCount
        failOutput()
        // Nothing is left to be sent, and a descriptor with an error would be reported for ever.
        try? wait(for: .writable, false)
        queueFailed(error, unsent: unsent)
    }

    // MARK: Closing

    override func finish() {
        guard output == .open else { return }
        output = .finishing
        if queue.isEmpty, !isConnecting { sendFIN() }
    }

    private func sendFIN() {
        output = .finished
        switch -Kernel.sendFIN(token.descriptor) {
        case 0: outputEnded(nil)
        // The connection was lost before its FIN (tcp(7)). The socket may still know why.
        case ENOTCONN: outputEnded(IOError(call: "shutdown", errno: lossError(of: token.descriptor)))
        case let error: outputEnded(IOError(call: "shutdown", errno: error))
        }
    }

    override func close(resetting: Bool) {
        guard output != .closed else { return }
        // Before the descriptor closes: a duplicate would keep the registration alive (epoll(7)).
        if !interest.isEmpty { try? loop.poller.change(token, from: interest, to: []) }
        interest = []
        output = .closed
        queue = WriteQueue()
        if resetting { setLinger(token.descriptor, to: .reset) }
        loop.leave(token)
        closeDescriptor(token.descriptor)
        loop.tellLater(.closed(self))
    }
}
