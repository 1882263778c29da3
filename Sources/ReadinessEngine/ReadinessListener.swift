@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A listening socket: the poller says when clients wait, accept(2) takes them.
@safe final class ReadinessListener: ListenerDriver {
    private let loop: ReadinessLoop
    private let options: Listener.Options
    private let address: SocketAddress
    private let file: SocketFile?
    private var token: Token
    private var state = State.paused
    /// A descriptor kept for the day when there is no other: /dev/null, which is always there.
    private var spare: Int32
    /// Clients in a row that failed before they were taken.
    private var failedClients = 0

    /// So many in a row are no longer the clients' fault. Each is passed over; an error that never ends would keep the
    /// socket readable and the loop awake.
    private static let mostFailedClients = 64

    private enum State {
        case accepting
        case paused
        case closed
    }

    convenience init(loop: ReadinessLoop, address: SocketAddress, options: Listener.Options) throws(IOError) {
        let (descriptor, file) = try openListeningSocket(on: address, options, descriptorLimit: loop.descriptorLimit)
        do throws(IOError) {
            try self.init(loop: loop, adopting: descriptor, address, options, file: file)
        } catch {
            file?.remove()
            Kernel.close(descriptor)
            throw error
        }
    }

    /// Takes over a socket that is listening on `address`; leaves it alone when this throws.
    init(
        loop: ReadinessLoop, adopting descriptor: Int32, _ address: SocketAddress, _ options: Listener.Options,
        file: SocketFile?
    ) throws(IOError) {
        // Without the spare one, clients could not be turned away at the limit.
        spare = Self.openSpare()
        guard spare >= 0 else { throw IOError(call: "open", errno: errno, address: address) }
        self.loop = loop
        self.options = options
        self.file = file
        self.address = Kernel.localAddress(of: descriptor) ?? address
        token = Token(descriptor: descriptor, generation: 0)
        super.init()
        token = unsafe loop.enter(descriptor, .listener(.passUnretained(self)))
    }

    private static func openSpare() -> Int32 {
        unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
    }

    override var descriptor: Int32 { state == .closed ? -1 : token.descriptor }

    override var localAddress: SocketAddress { address }

    override func resume() {
        guard state == .paused else { return }
        do throws(IOError) {
            try loop.poller.change(token, from: [], to: .readable)
            state = .accepting
        } catch {
            // Tried again after a pause, like any other failure to accept.
            loop.tellLater { self.acceptFailed(error.about(self.address)) }
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
        Kernel.close(token.descriptor)
        if spare >= 0 { Kernel.close(spare) }
        loop.tellLater { self.closed() }
    }

    // MARK: Accepting

    /// What became of one client that waited, or of the wish to have one.
    private enum Outcome {
        case client(Int32, SocketAddress)
        /// No client waits.
        case nobody
        /// This client is gone or was never reachable; the next one may be well.
        case clientFailed
        /// The process or the system has no descriptor left.
        case noDescriptor(Int32)
        /// Anything else; the same call would fail again.
        case failed(Int32)
    }

    /// Takes what waits, at most `acceptsPerWakeup` clients; the rest keeps the socket readable for the next turn.
    func becameReady() {
        var shed: [Listener.Shed.Cause: Int] = [:]
        acceptClients(&shed)
        // Lost when another thread was faster; without it clients could no longer be turned away.
        if spare < 0, state != .closed { spare = Self.openSpare() }
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
                Kernel.close(client)
                shed[.maxConnections, default: 0] += 1
            case .client(let client, _) where client >= loop.descriptorLimit ?? .max:
                Kernel.close(client)
                shed[.engineLimit, default: 0] += 1
            case .client(let client, let peer):
                start(client, peer)
            case .nobody:
                return
            case .clientFailed:
                continue
            case .noDescriptor(let error):
                switch shedOne() {
                case .client: shed[.descriptorLimit, default: 0] += 1
                case .nobody: return
                case .clientFailed: continue
                case .noDescriptor, .failed: return fail(error, isDescriptorLimit: true)
                }
            case .failed(let error):
                return fail(error, isDescriptorLimit: false)
            }
        }
    }

    private func acceptOne() -> Outcome {
        let (result, peer) = Kernel.accept(token.descriptor)
        let inARow = failedClients
        failedClients = 0
        guard result < 0 else { return .client(result, peer) }
        switch -result {
        case EAGAIN: return .nobody
        case EMFILE, ENFILE: return .noDescriptor(-result)
        // What befell the client before it was taken; accept(2) says to go on as after EAGAIN.
        case ECONNABORTED, EPROTO, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, ENONET, ENOPROTOOPT, EOPNOTSUPP:
            guard inARow < Self.mostFailedClients else { return .failed(-result) }
            failedClients = inARow + 1
            return .clientFailed
        default: return .failed(-result)
        }
    }

    /// Gives up the spare descriptor for a moment, so that one waiting client can be taken and sent away: left
    /// in the backlog, it would keep the listener readable and the loop awake.
    private func shedOne() -> Outcome {
        if spare >= 0 { Kernel.close(spare) }
        defer { spare = Self.openSpare() }
        let outcome = acceptOne()
        if case .client(let client, _) = outcome { Kernel.close(client) }
        return outcome
    }

    private func start(_ client: Int32, _ peer: SocketAddress) {
        Kernel.apply(options.connection, to: client, isTCP: address.family != AF_UNIX)
        accepted(ReadinessStream(loop: loop, adopting: client), remoteAddress: peer)
    }

    private func fail(_ error: Int32, isDescriptorLimit: Bool) {
        acceptFailed(
            IOError(call: "accept", errno: error, address: address), isDescriptorLimit: isDescriptorLimit)
    }
}
