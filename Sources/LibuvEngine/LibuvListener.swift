internal import CLibuv
internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A listening socket: `uv_poll_t` says when clients wait, `accept4` accepts them.
///
/// `uv_listen` is not used: in 1.44 a persistent accept error wedges the loop, EMFILE is hidden, and the number of
/// clients accepted in a turn depends on the version (Vendor-notes/libuv.md).
@safe final class LibuvListener: ListenerDriver {
    private let loop: LibuvLoop
    private let options: Listener.Options
    private let address: SocketAddress
    private let file: SocketFile?
    private var handle: UnsafeMutablePointer<uv_poll_t>?
    private var socket: Int32
    private var spare: SpareDescriptor
    /// Clients in a row that failed before they were accepted.
    private var failedClients = 0

    /// After this many failed clients in a row, the error is the listener's. Passed over for ever, it would keep the
    /// socket readable and the loop awake.
    private static let mostFailedClients = 64

    convenience init(loop: LibuvLoop, address: SocketAddress, options: Listener.Options) throws(IOError) {
        let socket = try makeSocket(family: address.family.number, about: address)
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
        loop: LibuvLoop, adopting descriptor: Int32, _ address: SocketAddress, _ options: Listener.Options,
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
        let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        let status = unsafe uv_poll_init(loop.loop, handle, descriptor)
        guard status == 0 else {
            unsafe handle.deallocate()
            spare.close()
            throw IOError(uv: status, call: "uv_poll_init", address: address)
        }
        unsafe self.handle = handle
        socket = descriptor
        super.init()
        // Retain 1, released in the close callback.
        unsafe handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
    }

    override var descriptor: Int32 { socket }

    override var localAddress: SocketAddress { address }

    override func resume() {
        guard let handle = unsafe handle else { return }
        let status = unsafe uv_poll_start(handle, Int32(UV_READABLE.rawValue)) { handle, status, _ in
            guard let data = unsafe handle?.pointee.data else { return }
            let listener = unsafe Unmanaged<LibuvListener>.fromOpaque(data).takeUnretainedValue()
            if status == 0 { listener.becameReady() } else { listener.pollFailed(status) }
        }
        require(status == 0, "uv_poll_start: \(status)")
    }

    override func pause() {
        guard let handle = unsafe handle else { return }
        unsafe uv_poll_stop(handle)
    }

    override var hasWaitingClients: Bool { LinuxSockets.hasInput(socket) }

    override func close() {
        guard let handle = unsafe handle else { return }
        unsafe self.handle = nil
        // The poll handle must have stopped before its descriptor closes (libuv documentation, uv_poll_init).
        unsafe uv_poll_stop(handle)
        if options.unixCleanUp { file?.remove() }
        closeDescriptor(socket)
        socket = -1
        spare.close()
        unsafe handle.close { handle in
            // Retain 1.
            let driver = unsafe Unmanaged<LibuvListener>.fromOpaque(handle!.pointee.data).takeRetainedValue()
            unsafe handle.deallocateHandle(of: uv_poll_t.self)
            driver.closed()
        }
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
    private func becameReady() {
        var shed: [Listener.Shed.Cause: Int] = [:]
        acceptClients(&shed)
        // Still closed if another thread was faster. Without it no client could be turned away.
        if socket >= 0 { spare.open() }
        for (cause, count) in shed { self.shed(count, cause) }
        wakeUpEnded()
    }

    private func acceptClients(_ shed: inout [Listener.Shed.Cause: Int]) {
        for _ in 0..<options.acceptsPerWakeup {
            let admission = admission
            // Also when a callback has closed the listener.
            guard admission != .stop, socket >= 0 else { return }
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
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let inARow = failedClients
        failedClients = 0
        while true {
            let client = unsafe withUnsafeMutableBytes(of: &storage) { raw in
                unsafe linux_accept4(socket, raw.assumingMemoryBound(to: sockaddr.self).baseAddress, &length)
            }
            let error = errno
            if client >= 0 {
                let peer = SocketAddress(storage, length: length) ?? .unnamed
                return .client(aboveStandardDescriptors(client), peer)
            }
            switch error {
            case EINTR: continue
            case EAGAIN: return .noClient
            case EMFILE, ENFILE: return .descriptorLimit(error)
            // Linux passes on what befell the client before it was accepted. accept(2) says to treat it like EAGAIN.
            case ECONNABORTED, ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP,
                ENETUNREACH:
                guard inARow < Self.mostFailedClients else { return .failed(error) }
                failedClients = inARow + 1
                return .clientFailed
            default: return .failed(error)
            }
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

    /// Returns false if libuv refuses the client's socket, which is then closed. It does so for a number that it
    /// watches already (EEXIST), after the program has closed a connection's descriptor itself.
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

    /// libuv has stopped the handle. The listener tries again after a pause, which starts it anew.
    private func pollFailed(_ status: CInt) {
        acceptFailed(IOError(uv: status, call: "poll", address: address))
    }
}
