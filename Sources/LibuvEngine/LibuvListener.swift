internal import CLibuv
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A listening socket: `uv_poll_t` says when clients wait, `accept4` takes them.
///
/// `uv_listen` is not used: it wedges the loop on a persistent accept error in 1.44, hides EMFILE, and takes
/// another number of clients a turn in each version (Vendor-notes/libuv.md).
@safe final class LibuvListener: ListenerDriver {
    private let loop: LibuvLoop
    private let options: Listener.Options
    private let address: SocketAddress
    private let isUnix: Bool
    private var handle: UnsafeMutablePointer<uv_poll_t>?
    private var socket: Int32
    private var spare: SpareDescriptor
    /// Clients in a row that failed before they were taken.
    private var failedClients = 0
    private let file: SocketFile?

    convenience init(loop: LibuvLoop, address: SocketAddress, options: Listener.Options) throws(IOError) {
        let socket = try Socket(family: address.family, about: address)
        let file = try Self.prepare(socket, address, options)
        try self.init(loop: loop, adopting: socket.number, address, options, file: file)
        _ = socket.take()
    }

    /// Takes over a socket that is listening on `address`; leaves it alone when this throws.
    init(
        loop: LibuvLoop, adopting descriptor: Int32, _ address: SocketAddress, _ options: Listener.Options,
        file: SocketFile? = nil
    ) throws(IOError) {
        self.file = file
        self.loop = loop
        self.options = options
        self.isUnix = address.family == AF_UNIX
        self.address = LibuvEngine.localAddress(of: descriptor) ?? address
        do throws(IOError) {
            spare = try SpareDescriptor()
        } catch {
            file?.remove()
            throw error.about(address)
        }
        let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        let status = unsafe uv_poll_init(loop.loop, handle, descriptor)
        guard status == 0 else {
            unsafe handle.deallocate()
            spare.close()
            file?.remove()
            throw IOError(uv: status, call: "uv_poll_init", address: address)
        }
        unsafe self.handle = handle
        socket = descriptor
        super.init()
        // Retain 1, released in the close callback.
        unsafe handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
    }

    /// Binds and listens; says which socket file is ours, if there is one.
    private static func prepare(
        _ socket: borrowing Socket, _ address: SocketAddress, _ options: Listener.Options
    ) throws(IOError) -> SocketFile? {
        if address.family == AF_INET6 {
            try socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, to: options.ipv6Only ? 1 : 0)
        }
        if address.family != AF_UNIX {
            if options.reuseAddress { try socket.set(SOL_SOCKET, SO_REUSEADDR, to: 1) }
            if options.reusePort { try socket.set(SOL_SOCKET, SO_REUSEPORT, to: 1) }
        }
        guard case .unixPath(let path) = address.storage else {
            try socket.bind(to: address)
            try socket.listen(backlog: options.backlog, about: address)
            return nil
        }
        let lock = options.unixCleanUp ? FolderLock(around: path) : nil
        // Kept until the socket listens.
        defer { lock?.release() }
        if options.unixCleanUp { removeStaleSocketFile(path) }
        try socket.bind(to: address)
        let file = SocketFile(path: path)
        do throws(IOError) {
            try setMode(options.unixMode, of: path)
            try socket.listen(backlog: options.backlog, about: address)
        } catch {
            file.remove()
            throw error.about(address)
        }
        return file
    }

    override var descriptor: Int32 { socket }

    override var localAddress: SocketAddress { address }

    override func resume() {
        guard let handle = unsafe handle else { return }
        let status = unsafe uv_poll_start(handle, Int32(UV_READABLE.rawValue)) { handle, status, _ in
            guard let data = unsafe handle?.pointee.data else { return }
            let listener = unsafe Unmanaged<LibuvListener>.fromOpaque(data).takeUnretainedValue()
            if status == 0 { listener.acceptWaiting() } else { listener.pollFailed(status) }
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
        _ = Glibc.close(socket)
        socket = -1
        spare.close()
        unsafe handle.close { handle in
            // Retain 1.
            let driver = unsafe Unmanaged<LibuvListener>.fromOpaque(handle!.pointee.data).takeRetainedValue()
            unsafe handle.deallocateHandle(of: uv_poll_t.self)
            driver.closed()
        }
    }
}

// MARK: - Accepting

extension LibuvListener {
    /// Takes what waits, at most `acceptsPerWakeup` clients; the rest keeps the socket readable for the next turn.
    private func acceptWaiting() {
        var refused = 0
        var shed = 0
        defer {
            // Lost when another thread was faster; without it clients could no longer be turned away.
            if socket >= 0 { spare.open() }
            self.shed(refused, .maxConnections)
            self.shed(shed, .descriptorLimit)
            wakeUpEnded()
        }
        for _ in 0..<options.acceptsPerWakeup {
            let admission = admission
            // Also when a callback has closed the listener.
            guard admission != .stop, socket >= 0 else { return }
            switch acceptNext() {
            case .client(let client, _) where admission == .refuse:
                _ = Glibc.close(client)
                refused += 1
            case .client(let client, let remoteAddress):
                start(client, remoteAddress)
            case .nobody:
                return
            case .clientFailed:
                continue
            case .descriptorLimit(let error):
                switch shedOne() {
                case .client: shed += 1
                case .nobody: return
                case .clientFailed: continue
                case .descriptorLimit, .failed: return fail(error, isDescriptorLimit: true)
                }
            case .failed(let error):
                return fail(error, isDescriptorLimit: false)
            }
        }
    }

    /// So many clients in a row that fail are no longer the clients' fault. Each is passed over; an error that never
    /// ends would keep the socket readable and the loop awake.
    private static let mostFailedClients = 64

    private func acceptNext() -> AcceptResult {
        let result = acceptClient(on: socket)
        guard case .clientFailed(let error) = result else {
            failedClients = 0
            return result
        }
        failedClients += 1
        guard failedClients > Self.mostFailedClients else { return result }
        failedClients = 0
        return .failed(error)
    }

    private func start(_ client: Int32, _ remoteAddress: SocketAddress) {
        applyOptions(options.connection, to: client, isTCP: !isUnix)
        do throws(IOError) {
            let socket = Socket(adopting: client)
            let stream = try unsafe LibuvStream(loop: loop.loop, adopting: socket, isUnix: isUnix)
            accepted(stream, remoteAddress: remoteAddress)
        } catch {
            acceptFailed(error.about(address))
        }
    }

    /// libuv has stopped the handle; accepting is tried again after a pause, which starts it anew.
    private func pollFailed(_ status: CInt) {
        acceptFailed(IOError(uv: status, call: "poll", address: address))
    }

    /// Gives up the spare descriptor for a moment, so that one waiting client can be taken and sent away.
    private func shedOne() -> AcceptResult {
        spare.close()
        defer { spare.open() }
        let result = acceptNext()
        if case .client(let client, _) = result { _ = Glibc.close(client) }
        return result
    }

    private func fail(_ error: Int32, isDescriptorLimit: Bool) {
        acceptFailed(
            IOError(call: "accept", errno: error, address: address), isDescriptorLimit: isDescriptorLimit)
    }
}

/// A descriptor kept for the day when there is no other: /dev/null, which is always there.
private struct SpareDescriptor {
    private var descriptor: Int32 = -1

    /// Throws what open(2) does, since without it clients could not be turned away at the limit.
    init() throws(IOError) {
        open()
        guard descriptor >= 0 else { throw IOError(call: "open", errno: errno) }
    }

    mutating func open() {
        guard descriptor < 0 else { return }
        unsafe descriptor = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
    }

    mutating func close() {
        guard descriptor >= 0 else { return }
        _ = Glibc.close(descriptor)
        descriptor = -1
    }
}
