@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A listening socket: the poller says when clients wait, `accept4` accepts them.
@safe final class ReadinessListener: ListenerDriver {
    private let loop: ReadinessLoop
    private let options: Listener.Options
    private let address: SocketAddress
    private let file: SocketFile?
    private var token: Token
    private var state = State.paused
    private var spare: SpareDescriptor
    /// Clients in a row that failed before they were accepted.
    private var failedClients = 0

    /// After this many failed clients in a row, the error is the listener's. Passed over for ever, it would keep the
    /// socket readable and the loop awake.
    private static let mostFailedClients = 64

    private enum State {
        case accepting
        case paused
        case closed
    }

    convenience init(loop: ReadinessLoop, address: SocketAddress, options: Listener.Options) throws(IOError) {
        let socket = try loop.makeSocket(family: address.family.number, about: address)
        let file = try socket.listen(on: address, options)
        do throws(IOError) {
            try self.init(loop: loop, adopting: socket.number, address, options, file: file)
        } catch {
            file?.remove()
            throw error
        }
        _ = socket.detach()
    }

    /// Adopts a socket that is listening on `address`. If this throws, the socket stays the caller's.
    init(
        loop: ReadinessLoop, adopting descriptor: Int32, _ address: SocketAddress, _ options: Listener.Options,
        file: SocketFile?
    ) throws(IOError) {
        do throws(IOError) {
            spare = try SpareDescriptor()
        } catch {
            throw error.about(address)
        }
        self.loop = loop
        self.options = options
        self.file = file
        self.address = LinuxSockets.localAddress(of: descriptor) ?? address
        token = Token(descriptor: descriptor, generation: 0)
        super.init()
        token = unsafe loop.enter(descriptor, .listener(.passUnretained(self)))
    }

    override var descriptor: Int32 { state == .closed ? -1 : token.descriptor }

    override var localAddress: SocketAddress { address }

    override func resume() {
        guard state == .paused else { return }
        do throws(IOError) {
            try loop.poller.change(token, from: [], to: .readable)
            state = .accepting
        } catch {
            // The listener tries again after a pause, as after any failure to accept.
            loop.callLater { self.acceptFailed(error.about(self.address)) }
        }
    }

    override func pause() {
        guard state == .accepting else { return }
        state = .paused
        try? loop.poller.change(token, from: .readable, to: [])
    }

    override var hasWaitingClients: Bool { state != .closed && LinuxSockets.hasInput(token.descriptor) }

    override func close() {
        guard state != .closed else { return }
        pause()
        state = .closed
        if options.unixCleanUp { file?.remove() }
        loop.leave(token)
        closeDescriptor(token.descriptor)
        spare.close()
        loop.callLater { self.closed() }
    }

    // MARK: Accepting

    /// What came of one accept(2).
    private enum AcceptResult {
        case client(Int32, SocketAddress)
        /// No client waits: EAGAIN.
        case noClient
        /// This client is gone or was never reachable. The next one may be well.
        case clientFailed
        /// EMFILE or ENFILE.
        case descriptorLimit(Int32)
        /// Anything else: the same call would fail again.
        case failed(Int32)
    }

    /// Accepts at most `acceptsPerWakeup` clients. If more wait, the socket stays readable for the next turn.
    func becameReady() {
        var shed: [Listener.Shed.Cause: Int] = [:]
        acceptClients(&shed)
        // Still closed if another thread was faster. Without it no client could be turned away.
        if state != .closed { spare.open() }
        for (cause, count) in shed { self.shed(count, cause) }
        wakeUpEnded()
    }

    private func acceptClients(_ shed: inout [Listener.Shed.Cause: Int]) {
        for _ in 0..<options.acceptsPerWakeup {
            let admission = admission
            // Also when a callback has paused or closed the listener.
            guard admission != .stop, state == .accepting else { return }
            switch acceptOne() {
            case .client(let client, _) where admission == .refuse:
                closeDescriptor(client)
                shed[.maxConnections, default: 0] += 1
            case .client(let client, let peer):
                if !start(client, peer) { shed[.engineLimit, default: 0] += 1 }
            case .noClient:
                return
            case .clientFailed:
                continue
            case .descriptorLimit(let error):
                switch shedOne() {
                case .client: shed[.descriptorLimit, default: 0] += 1
                case .noClient: return
                case .clientFailed: continue
                case .descriptorLimit, .failed: return acceptFailed(error, isDescriptorLimit: true)
                }
            case .failed(let error):
                return acceptFailed(error, isDescriptorLimit: false)
            }
        }
    }

    /// Accepts one waiting client, non-blocking and close-on-exec.
    private func acceptOne() -> AcceptResult {
        let (result, peer) = Kernel.accept(token.descriptor)
        let inARow = failedClients
        failedClients = 0
        guard result < 0 else { return .client(result, peer) }
        switch -result {
        case EAGAIN: return .noClient
        case EMFILE, ENFILE: return .descriptorLimit(-result)
        // What befell the client before it was accepted. accept(2) says to go on as after EAGAIN.
        case ECONNABORTED, EPROTO, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, ENONET, ENOPROTOOPT, EOPNOTSUPP:
            guard inARow < Self.mostFailedClients else { return .failed(-result) }
            failedClients = inARow + 1
            return .clientFailed
        default: return .failed(-result)
        }
    }

    /// Gives up the spare descriptor for a moment, so that one waiting client can be accepted and closed. Left in the
    /// backlog, it would keep the socket readable and the loop awake.
    private func shedOne() -> AcceptResult {
        spare.close()
        defer { spare.open() }
        let result = acceptOne()
        if case .client(let client, _) = result { closeDescriptor(client) }
        return result
    }

    /// Returns false if the poller cannot wait for the client's socket, which is then closed.
    private func start(_ client: Int32, _ peer: SocketAddress) -> Bool {
        if handOver(client, remoteAddress: peer) { return true }
        let isUnix = address.family == .unix
        guard let stream = try? loop.takeAccepted(client, isUnix: isUnix, options: options.connection) else {
            return false
        }
        accepted(stream, remoteAddress: peer)
        return true
    }

    private func acceptFailed(_ error: Int32, isDescriptorLimit: Bool) {
        acceptFailed(
            IOError(call: "accept", errno: error, address: address), isDescriptorLimit: isDescriptorLimit)
    }
}
