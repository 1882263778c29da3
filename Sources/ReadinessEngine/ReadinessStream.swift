@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A connected socket: read when the kernel says so, written at once while nothing is queued.
@safe final class ReadinessStream: StreamDriver {
    /// At most so many sends a turn, for a peer that reads as fast as we send.
    private static let sendsPerTurn = 32

    private let loop: ReadinessLoop
    private var token: Token
    /// What the poller waits for. Nothing, and the descriptor is not in its set at all.
    @safe @exclusivity(unchecked) private var interest: Readiness = []
    @safe @exclusivity(unchecked) private var state = State.open
    private var queue = WriteQueue()
    /// Between connect(2) and its outcome.
    private var isConnecting = false
    /// Whether `send` may not call the kernel: something is queued, or nothing may leave any more.
    @safe @exclusivity(unchecked) private var mustQueue = false

    private enum State {
        case open
        /// FIN follows the queue.
        case finishing
        /// FIN is sent.
        case finished
        /// A send failed: nothing more leaves.
        case poisoned
        case closed
    }

    /// Adopts a non-blocking socket, connected or to be connected, which it owns from now on.
    init(loop: ReadinessLoop, adopting descriptor: Int32) {
        self.loop = loop
        token = Token(descriptor: descriptor, generation: 0)
        super.init()
        token = unsafe loop.enter(descriptor, .stream(.passUnretained(self)))
    }

    override var descriptor: Int32 { state == .closed ? -1 : token.descriptor }

    override var localAddress: SocketAddress? {
        state == .closed ? nil : Kernel.localAddress(of: token.descriptor)
    }

    /// The loop calls this when the poller has told of the descriptor.
    func becameReady(_ readiness: Readiness) {
        // What the callbacks of one direction have stopped is no longer of interest to the other.
        if readiness.contains(.readable), interest.contains(.readable) { read() }
        if readiness.contains(.writable), interest.contains(.writable) {
            if isConnecting { connected() } else { sendQueue() }
        }
    }

    /// Adds to what is waited for, or takes away from it.
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
            // Writable is what tells that it is decided (connect(2), EINPROGRESS).
            try wait(for: .writable, true)
        } catch {
            return .failed(error)
        }
        isConnecting = true
        mustQueue = true
        return .inProgress
    }

    private func connected() {
        isConnecting = false
        let number = Kernel.pendingError(of: token.descriptor)
        if number != 0 {
            let error = IOError(call: "connect", errno: number)
            return error.isPeerReset ? openedAndLost(error) : connectFailed(error)
        }
        mustQueue = !queue.isEmpty || state != .open
        // Told first: completions and `onDrain` come after `onOpen` (contract clause 2).
        opened()
        // Sends what was queued meanwhile, or stops waiting for the writable socket.
        if interest.contains(.writable) { sendQueue() }
    }

    /// No refusal, which is ECONNREFUSED: it was open before the peer reset it, and what came before that is read.
    private func openedAndLost(_ error: IOError) {
        state = .poisoned
        mustQueue = true
        try? wait(for: .writable, false)
        opened()
        guard state != .closed else { return }
        // Not before, or what was queued would look sent.
        poison()
        queueFailed(error)
    }

    /// A reset is an error that poll(2) reports unasked.
    override var loss: Int32? {
        guard state != .closed, Kernel.hasError(token.descriptor) else { return nil }
        let error = Kernel.pendingError(of: token.descriptor)
        return error == 0 ? ECONNRESET : error
    }

    override var hasInput: Bool { LinuxSockets.hasInput(descriptor) }
    override var hasRoom: Bool { LinuxSockets.hasRoom(descriptor) }
    override var hasUnacknowledged: Bool { LinuxSockets.hasUnacknowledged(descriptor) }
    override var sendProgress: SendProgress? { LinuxSockets.sendProgress(descriptor) }

    // MARK: Reading

    override func startReading() {
        guard state != .closed else { return }
        do throws(IOError) {
            try wait(for: .readable, true)
        } catch {
            readFailed(error)
        }
    }

    override func stopReading() {
        guard state != .closed else { return }
        do throws(IOError) {
            try wait(for: .readable, false)
        } catch {
            readFailed(error)
        }
    }

    /// Reads until the kernel has no more, the connection has stopped reading, or it is the others' turn.
    ///
    /// The end is never concluded from a hang-up or a short read, only from a read that gave nothing: before
    /// that there may be bytes left, or a reset to be told.
    private func read() {
        let size = loop.readBufferSize
        let buffer = unsafe loop.readBuffer
        var reads = 0
        repeat {
            let count = unsafe Kernel.receive(token.descriptor, buffer, size)
            guard count > 0 else { return readNothing(count) }
            received(unsafe Span(_unsafeStart: buffer.assumingMemoryBound(to: UInt8.self), count: count))
            // Most likely nothing is left, and asking would be a system call for nothing; what comes after all
            // is reported by the next wait.
            if count < size || !interest.contains(.readable) { return }
            reads &+= 1
        } while reads < loop.readsPerTurn
    }

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
        if mustQueue { return enqueue(bytes, of: array, from: 0) }
        let count = bytes.count
        let sent = unsafe bytes.withUnsafeBytes {
            unsafe Kernel.send(token.descriptor, $0.baseAddress.unsafelyUnwrapped, count)
        }
        return sent == count ? 0 : enqueue(bytes, of: array, from: sent)
    }

    /// Queues what the kernel did not take; `sent` is what its answer was.
    @inline(never)
    private func enqueue(_ bytes: Span<UInt8>, of array: [UInt8]?, from sent: Int) -> Int {
        guard state == .open else { return -Int(EPIPE) }
        guard sent >= 0 || sent == -Int(EAGAIN) else {
            poison()
            return sent
        }
        queue.append(bytes.extracting(droppingFirst: max(0, sent)), of: array)
        mustQueue = true
        do throws(IOError) {
            try wait(for: .writable, true)
        } catch {
            // Told later: an error as the answer would say that none of these bytes has left.
            state = .poisoned
            loop.tellLater { [self] in
                if state == .poisoned { sendFailed(error) }
            }
        }
        return queue.byteCount
    }

    /// From the first failure on nothing is sent, so that the peer has an exact prefix (contract clause 5).
    private func poison() {
        state = .poisoned
        mustQueue = true
        queue = WriteQueue()
    }

    /// There is room in the kernel's buffer, or an error that the next send tells.
    private func sendQueue() {
        let before = queue.byteCount
        for _ in 0..<Self.sendsPerTurn where !queue.isEmpty {
            let sent = queue.send(to: token.descriptor)
            if sent == -Int(EAGAIN) { break }
            if sent < 0 { return sendFailed(IOError(call: "sendmsg", errno: Int32(-sent))) }
        }
        // Nothing has moved: told all the same, it would put off the write time-out.
        if before > 0, queue.byteCount == before { return }
        if queue.isEmpty {
            mustQueue = state != .open
            do throws(IOError) {
                try wait(for: .writable, false)
            } catch {
                return sendFailed(error)
            }
        }
        queueShrank(to: queue.byteCount)
        // Told first: a connection that closes with its FIN must know that its bytes have left.
        if state == .finishing, queue.isEmpty { sendEnd() }
    }

    private func sendFailed(_ error: IOError) {
        let unsent = queue.byteCount
        poison()
        // Nothing is left to be written, and a descriptor with an error would be reported for ever.
        try? wait(for: .writable, false)
        queueFailed(error, unsent: unsent)
    }

    // MARK: Closing

    override func finish() {
        guard state == .open else { return }
        state = .finishing
        mustQueue = true
        if queue.isEmpty, !isConnecting { sendEnd() }
    }

    private func sendEnd() {
        state = .finished
        let status = Kernel.finish(token.descriptor)
        switch -status {
        case 0: outputEnded(nil)
        // The connection has gone before its FIN (tcp(7)); the socket may still know why.
        case ENOTCONN:
            let error = Kernel.pendingError(of: token.descriptor)
            outputEnded(IOError(call: "shutdown", errno: error == 0 ? ECONNRESET : error))
        case let error: outputEnded(IOError(call: "shutdown", errno: error))
        }
    }

    override func close(resetting: Bool) {
        guard state != .closed else { return }
        // Before the descriptor closes: a duplicate would keep the registration alive (epoll(7)).
        if !interest.isEmpty { try? loop.poller.change(token, from: interest, to: []) }
        interest = []
        state = .closed
        mustQueue = true
        queue = WriteQueue()
        if resetting {
            Kernel.set(token.descriptor, SOL_SOCKET, SO_LINGER, to: linger(l_onoff: 1, l_linger: 0))
        }
        loop.leave(token)
        Kernel.close(token.descriptor)
        loop.tellClosed(.stream(self))
    }
}
