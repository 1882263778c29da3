internal import CLibuv
internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc
internal import LinuxSockets

/// The loop over `uv_loop_t`.
///
/// One turn, in libuv 1.44's order: what was put off (idle handle) → wait and I/O → closes → due timers. From libuv
/// 1.45 on timers come right after I/O. The contract allows both.
@safe package final class LibuvLoop: LoopDriver {
    // Allocated in `init`, given back in `shutDown`, after libuv has called back for every handle.
    let loop: UnsafeMutablePointer<uv_loop_t>
    private let putOffHandle: UnsafeMutablePointer<uv_idle_t>
    private let turnHandle: UnsafeMutablePointer<uv_prepare_t>
    private let wakeHandle: UnsafeMutablePointer<uv_async_t>
    /// Made at the first use.
    private var signals: LibuvSignals?
    private var mainQueue: PolledDescriptor?
    private var turns: UInt64 = 0
    /// One for all connections: libuv reads into it and calls back before the next read.
    private let readBuffer: UnsafeMutablePointer<ReadBuffer>
    private let countsTurns: Bool

    /// An empty loop. Throws EMFILE, ENFILE or ENOMEM: waiting costs libuv a few descriptors.
    package init(options: EventLoop.Options) throws(IOError) {
        linux_disarm_sigpipe()
        occupyStandardDescriptors()
        try requireFreeDescriptors()
        unsafe loop = .allocate(capacity: 1)
        let status = unsafe uv_loop_init(loop)
        guard status == 0 else {
            unsafe loop.deallocate()
            throw IOError(uv: status, call: "uv_loop_init")
        }
        countsTurns = options.collectsMetrics
        unsafe turnHandle = .allocate(capacity: 1)
        unsafe uv_prepare_init(loop, turnHandle)
        unsafe turnHandle.setReferenced(false)
        unsafe readBuffer = .allocate(capacity: 1)
        unsafe readBuffer.initialize(
            to: ReadBuffer(
                size: options.readBufferSize, readsPerTurn: options.readsPerTurn, turnHandle: turnHandle))
        // The allocation callback finds the buffer here, without a look at any Swift object.
        unsafe loop.pointee.data = UnsafeMutableRawPointer(readBuffer)
        unsafe putOffHandle = .allocate(capacity: 1)
        unsafe uv_idle_init(loop, putOffHandle)
        // What was put off keeps the loop running by `hold`. A timer without a reference does not keep it.
        unsafe putOffHandle.setReferenced(false)
        unsafe wakeHandle = .allocate(capacity: 1)
        // It cannot fail: the loop has a descriptor for such handles since uv_loop_init.
        unsafe uv_async_init(loop, wakeHandle) { handle in
            guard let data = unsafe handle?.pointee.data else { return }
            unsafe Unmanaged<LibuvLoop>.fromOpaque(data).takeUnretainedValue().woken()
        }
        unsafe wakeHandle.setReferenced(false)
        unsafe openSpareDescriptor(of: loop)
        super.init()
        unsafe wakeHandle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        unsafe putOffHandle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        unsafe turnHandle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        if countsTurns {
            unsafe uv_prepare_start(turnHandle, Self.turnBegan)
            unsafe callbackserver_uv_measure_idle_time(loop)
        }
    }

    // MARK: The turn

    package override func run(_ mode: EventLoop.RunMode) throws(IOError) {
        let uvMode =
            switch mode {
            case .untilIdle: UV_RUN_DEFAULT
            case .once: UV_RUN_ONCE
            case .noWait: UV_RUN_NOWAIT
            }
        unsafe uv_run(loop, uvMode)
    }

    package override func stop() {
        unsafe uv_stop(loop)
    }

    /// libuv ends a run when no active handle is left, and a stream that is neither read nor written is inactive. An
    /// async handle is always active and costs a turn nothing. An armed timer would be looked at in each turn.
    package override func hold(_ isHeld: Bool) {
        unsafe wakeHandle.setReferenced(isHeld)
    }

    package override var turnCount: UInt64 { turns }

    package override var nanosecondsAsleep: UInt64 {
        unsafe uv_metrics_idle_time(loop)
    }

    /// libuv calls a prepare handle once a turn, right before it waits.
    static let turnBegan: uv_prepare_cb = { handle in
        guard let handle = unsafe handle else { return }
        unsafe Unmanaged<LibuvLoop>.fromOpaque(handle.pointee.data).takeUnretainedValue().turnBegan()
    }

    private func turnBegan() {
        turns += 1
        unsafe readBuffer.pointee.turnBegan()
        if !countsTurns { unsafe uv_prepare_stop(turnHandle) }
    }

    package override var cachedMilliseconds: UInt64 {
        unsafe uv_now(loop)
    }

    package override var nanoseconds: UInt64 {
        uv_hrtime()
    }

    /// An active idle handle keeps libuv from sleeping, and is called before libuv looks for events.
    package override func requestTurn() {
        unsafe uv_idle_start(putOffHandle) { handle in
            guard let handle = unsafe handle else { return }
            unsafe uv_idle_stop(handle)
            unsafe Unmanaged<LibuvLoop>.fromOpaque(handle.pointee.data).takeUnretainedValue().requestedTurnBegan()
        }
    }

    package override func shutDown() {
        signals?.close()
        mainQueue?.close()
        unsafe putOffHandle.close { unsafe $0.deallocateHandle(of: uv_idle_t.self) }
        unsafe turnHandle.close { unsafe $0.deallocateHandle(of: uv_prepare_t.self) }
        unsafe wakeHandle.close { unsafe $0.deallocateHandle(of: uv_async_t.self) }
        // Only closes are left. Each turn delivers those that were under way at its beginning.
        while unsafe uv_run(loop, UV_RUN_ONCE) != 0 {}
        let status = unsafe uv_loop_close(loop)
        require(status == 0, "uv_loop_close: a handle was never closed")
        unsafe loop.deallocate()
        unsafe readBuffer.pointee.deallocate()
        unsafe readBuffer.deallocate()
    }

    // MARK: The drivers that it makes

    package override func makeListener(
        on address: SocketAddress, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        try LibuvListener(loop: self, address: address, options: options)
    }

    package override func adoptListener(
        _ descriptor: Int32, options: Listener.Options
    ) throws(IOError) -> ListenerDriver {
        let address = try adoptListening(descriptor)
        return try LibuvListener(loop: self, adopting: descriptor, address, options, file: nil)
    }

    package override func makeStream(
        for address: SocketAddress, from local: SocketAddress?, options: Connection.Options
    ) throws(IOError) -> StreamDriver {
        let isUnix = address.family == .unix
        let socket = try makeSocket(family: address.family.number, about: address)
        apply(options, to: socket.number, isTCP: !isUnix)
        if let local { try socket.bind(to: local) }
        return try unsafe LibuvStream(loop: loop, adopting: socket, isUnix: isUnix)
    }

    package override func adoptStream(
        _ descriptor: Int32, options: Connection.Options
    ) throws(IOError) -> (StreamDriver, SocketAddress) {
        let peer = try adoptConnected(descriptor)
        let isUnix = peer.family == .unix
        apply(options, to: descriptor, isTCP: !isUnix)
        // libuv would never close a standard stream.
        let moved = aboveStandardDescriptors(descriptor)
        if moved != descriptor { occupyStandardDescriptors() }
        return (try unsafe LibuvStream(loop: loop, descriptor: moved, isUnix: isUnix), peer)
    }

    package override func takeAccepted(
        _ descriptor: Int32, isUnix: Bool, options: Connection.Options
    ) throws(IOError) -> StreamDriver {
        apply(options, to: descriptor, isTCP: !isUnix)
        return try unsafe LibuvStream(loop: loop, adopting: Socket(adopting: descriptor), isUnix: isUnix)
    }

    package override var wake: @Sendable () -> Void {
        // As a number, since a pointer does not cross threads. The model calls this only while the handle is open.
        let handle = unsafe UInt(bitPattern: wakeHandle)
        return { unsafe uv_async_send(UnsafeMutablePointer(bitPattern: handle)) }
    }

    package override func watchMainQueue(_ descriptor: Int32?) throws(IOError) {
        mainQueue?.close()
        mainQueue = nil
        guard let descriptor else { return }
        mainQueue = try PolledDescriptor(loop: self, descriptor) { [unowned self] in mainQueueBecameReady() }
    }

    package override func makeTimer() -> TimerDriver {
        unsafe LibuvTimer(loop: loop)
    }

    package override func makeSignal(_ number: Int32) throws(IOError) -> SignalDriver {
        if let signals { return try signals.watch(number) }
        let signals = try LibuvSignals(loop: self)
        self.signals = signals
        return try signals.watch(number)
    }
}

extension IOError {
    /// libuv's errors are negative errnos on Unix (libuv documentation, "Error handling").
    init(uv status: CInt, call: String, address: SocketAddress? = nil) {
        self.init(call: call, errno: -status, address: address)
    }
}

/// libuv's first loop needs five descriptors (epoll, a counter, a pipe for signals, /dev/null). If it gets the first of
/// them but not all, libuv aborts the process.
private func requireFreeDescriptors() throws(IOError) {
    var opened: [SpareDescriptor] = []
    defer { for index in opened.indices { opened[index].close() } }
    for _ in 0..<5 { opened.append(try SpareDescriptor()) }
}

/// libuv opens /dev/null with a loop's first stream, and keeps it. Opened here, while numbers 0 to 2 are in use. With
/// such a number libuv would abort when it closes the descriptor.
private func openSpareDescriptor(of loop: UnsafeMutablePointer<uv_loop_t>) {
    let first = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
    unsafe uv_tcp_init(loop, first)
    unsafe first.close { unsafe $0.deallocateHandle(of: uv_tcp_t.self) }
    unsafe uv_run(loop, UV_RUN_NOWAIT)
}
