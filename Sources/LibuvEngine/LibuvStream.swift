internal import CLibuv
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// A connected socket over `uv_tcp_t` or `uv_pipe_t`.
///
/// libuv reads. Writes go to the kernel directly while nothing is queued, and are libuv's as soon as it has to wait. It
/// gets one `uv_write` at a time: after a failure it would go on with the next (Vendor-notes/libuv.md).
@safe final class LibuvStream: StreamDriver {
    private var handle: UnsafeMutablePointer<uv_stream_t>?
    private var socket: Int32
    /// `ReadBuffer.mostUncounted`, beside the descriptor, where it needs no room of its own (swift.md 11).
    fileprivate let mostUncounted: UInt32
    private var queue: WriteQueue? { didSet { updateMustQueue() } }
    private var output = Output.open { didSet { updateMustQueue() } }
    private var isConnecting = false { didSet { updateMustQueue() } }
    /// Whether `send` may not call the kernel: the three states above in one, for each message.
    private var mustQueue = false
    private var isReading = false

    private enum Output {
        case open
        /// FIN follows the queue.
        case finishing
        /// FIN is under way or sent.
        case finished
        /// A send failed: nothing more leaves.
        case failed
        case closed
    }

    private func updateMustQueue() {
        mustQueue = queue != nil || output != .open || isConnecting
    }

    /// Adopts a non-blocking socket, connected or to be connected. If this throws, the socket is closed.
    convenience init(
        loop: UnsafeMutablePointer<uv_loop_t>, adopting socket: consuming Socket, isUnix: Bool
    ) throws(IOError) {
        try unsafe self.init(loop: loop, descriptor: socket.number, isUnix: isUnix)
        _ = socket.detach()
    }

    /// The same. If this throws, the socket stays the caller's.
    init(loop: UnsafeMutablePointer<uv_loop_t>, descriptor number: Int32, isUnix: Bool) throws(IOError) {
        if isUnix {
            let pipe = UnsafeMutablePointer<uv_pipe_t>.allocate(capacity: 1)
            unsafe uv_pipe_init(loop, pipe, 0)
            unsafe handle = UnsafeMutableRawPointer(pipe).assumingMemoryBound(to: uv_stream_t.self)
        } else {
            let tcp = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
            unsafe uv_tcp_init(loop, tcp)
            unsafe handle = UnsafeMutableRawPointer(tcp).assumingMemoryBound(to: uv_stream_t.self)
        }
        self.socket = number
        unsafe mostUncounted = readBuffer(of: loop).pointee.mostUncounted
        super.init()
        // Retain 1, released in the close callback: libuv's callbacks find this object through `data`.
        unsafe handle!.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let status = unsafe isUnix ? uv_pipe_open(pipe, number) : uv_tcp_open(tcp, number)
        guard status == 0 else {
            self.socket = -1
            closeHandle()
            throw IOError(uv: status, call: isUnix ? "uv_pipe_open" : "uv_tcp_open")
        }
        // libuv owns the descriptor from here on and closes it in uv_close.
    }

    private var pipe: UnsafeMutablePointer<uv_pipe_t> {
        unsafe UnsafeMutableRawPointer(handle!).assumingMemoryBound(to: uv_pipe_t.self)
    }

    private var tcp: UnsafeMutablePointer<uv_tcp_t> {
        unsafe UnsafeMutableRawPointer(handle!).assumingMemoryBound(to: uv_tcp_t.self)
    }

    override var descriptor: Int32 { socket }

    override var localAddress: SocketAddress? {
        socket >= 0 ? LinuxSockets.localAddress(of: socket) : nil
    }

    // MARK: Connecting

    override func connect(to address: SocketAddress) -> ConnectOutcome {
        guard let handle = unsafe handle else { return .failed(IOError(call: "connect", errno: EBADF)) }
        if unsafe uv_handle_get_type(handle.asHandle) == UV_NAMED_PIPE {
            // Not uv_pipe_connect: it knows no abstract names before 1.46.
            let error = unsafe address.withSockaddr { unsafe Glibc.connect(socket, $0, $1) == 0 ? 0 : errno }
            return error == 0 ? .connected : .failed(IOError(call: "connect", errno: error))
        }
        // Given back in its callback, which always comes, at the latest with ECANCELED from uv_close.
        let request = UnsafeMutablePointer<uv_connect_t>.allocate(capacity: 1)
        let status = unsafe address.withSockaddr { address, _ in
            unsafe uv_tcp_connect(request, tcp, address) { request, status in
                guard let request = unsafe request else { return }
                let data = unsafe request.pointee.handle.pointee.data
                unsafe request.deallocate()
                guard let data = unsafe data else { return }
                unsafe Unmanaged<LibuvStream>.fromOpaque(data)._withUnsafeGuaranteedRef { $0.didConnect(status) }
            }
        }
        guard status == 0 else {
            unsafe request.deallocate()
            return .failed(IOError(uv: status, call: "connect"))
        }
        isConnecting = true
        return .inProgress
    }

    private func didConnect(_ status: CInt) {
        guard unsafe handle != nil else { return }
        isConnecting = false
        if status != 0 {
            let error = IOError(uv: status, call: "connect")
            return error.isPeerReset ? openedAndLost(error) : connectFailed(error)
        }
        if queue != nil { sendQueue() } else if output == .finishing { sendFIN() }
        opened()
    }

    /// A refusal would be ECONNREFUSED. This connection was open before the peer reset it, and what came before the
    /// reset is read.
    private func openedAndLost(_ error: IOError) {
        output = .failed
        opened()
        guard unsafe handle != nil else { return }
        // Only now, or what was queued would look sent. Nothing of it is in libuv's hands.
        failOutput()
        queueFailed(error)
    }

    override var loss: Int32? { LinuxSockets.loss(of: socket) }

    override var hasInput: Bool { LinuxSockets.hasInput(socket) }
    override var hasRoom: Bool { LinuxSockets.hasRoom(socket) }
    override var hasUnacknowledged: Bool { LinuxSockets.hasUnacknowledged(socket) }
    override var sendProgress: SendProgress? { LinuxSockets.sendProgress(socket) }

    // MARK: Reading

    override func startReading() {
        // A second uv_read_start would fail with EALREADY.
        guard let handle = unsafe handle, !isReading else { return }
        isReading = true
        let status = unsafe uv_read_start(handle, lendBuffer, didRead)
        if status != 0 { readFailed(IOError(uv: status, call: "read")) }
    }

    override func stopReading() {
        guard let handle = unsafe handle else { return }
        isReading = false
        unsafe uv_read_stop(handle)
    }

    /// A read has filled the buffer. libuv reads on, unless the stream has had its turn (contract clause 14).
    fileprivate func filledBuffer(_ base: UnsafeMutablePointer<CChar>?, _ count: Int) {
        unsafe deliver(self, base, count)
        guard let handle = unsafe handle, isReading else { return }
        unsafe readBuffer(of: handle.pointee.loop).pointee.wasFilled(by: handle)
    }

    /// A read brought no data.
    fileprivate func readNothing(_ count: Int) {
        switch Int32(count) {
        // There was no data after all: EAGAIN (libuv documentation, uv_read_cb).
        case 0: return
        case UV_ENOBUFS.rawValue where endedTurn(): return
        case UV_EOF.rawValue: confirmEnd()
        default: readFailed(IOError(uv: CInt(count), call: "read"))
        }
    }

    /// Whether the stream was not read because it has had its turn, and not for want of the kernel's memory.
    private func endedTurn() -> Bool {
        guard let handle = unsafe handle, case let buffer = unsafe readBuffer(of: handle.pointee.loop),
            unsafe buffer.pointee.isTurnOver
        else { return false }
        unsafe buffer.pointee.lendAgain()
        return true
    }

    /// libuv reports the end after any short read that came with POLLHUP, without a read that gave 0. A reset would
    /// pass for a proper end, and bytes behind an urgent one would be lost, so the kernel itself is asked.
    private func confirmEnd() {
        guard let handle = unsafe handle else { return }
        let buffer = unsafe readBuffer(of: handle.pointee.loop).pointee.whole
        var count = unsafe recv(socket, buffer.baseAddress, buffer.count, 0)
        while count < 0, errno == EINTR { count = unsafe recv(socket, buffer.baseAddress, buffer.count, 0) }
        if count == 0 {
            return isLost ? readFailed(IOError(call: "recv", errno: lossError(of: socket))) : reachedEnd()
        }
        if count < 0, errno != EAGAIN { return readFailed(IOError(call: "recv", errno: errno)) }
        // libuv has stopped. Before the bytes are delivered, since their receiver may stop reading again.
        isReading = false
        startReading()
        guard count > 0 else { return }
        unsafe deliver(self, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), count)
    }

    /// Whether the end that a read has found is a reset. The kernel reports a reset once: a write in libuv's hands has
    /// met it, and libuv has not told yet. Then POLLHUP says that both directions are over, though this side has sent
    /// no FIN (tcp_poll in net/ipv4/tcp.c).
    private var isLost: Bool {
        guard let handle = unsafe handle, queue != nil, output == .open || output == .finishing else { return false }
        guard unsafe uv_handle_get_type(handle.asHandle) == UV_TCP else { return false }
        var entry = pollfd(fd: socket, events: 0, revents: 0)
        return unsafe poll(&entry, 1, 0) == 1 && Int32(entry.revents) & POLLHUP != 0
    }

    // MARK: Writing

    /// What libuv has not sent of the write in flight, and what waits behind it.
    override var queuedByteCount: Int {
        guard let handle = unsafe handle, let queue else { return 0 }
        return unsafe uv_stream_get_write_queue_size(handle) + queue.waitingByteCount
    }

    override func send(_ bytes: Span<UInt8>) -> Int { send(bytes, of: nil) }

    override func send(keeping bytes: [UInt8]) -> Int { send(bytes.span, of: bytes) }

    @inline(__always)
    private func send(_ bytes: Span<UInt8>, of array: [UInt8]?) -> Int {
        if mustQueue { return enqueue(bytes, of: array) }
        let count = bytes.count
        // MSG_NOSIGNAL, so that this call never raises SIGPIPE, whatever the process has done with it.
        let sent = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.send(socket, $0.baseAddress.unsafelyUnwrapped, count, Int32(MSG_NOSIGNAL))
        }
        return sent == count ? 0 : enqueue(bytes, of: array, sent: sent)
    }

    @inline(never)
    private func enqueue(_ bytes: Span<UInt8>, of array: [UInt8]?) -> Int {
        guard output == .open else { return -Int(EPIPE) }
        let queue = self.queue ?? WriteQueue(stream: self)
        self.queue = queue
        queue.append(bytes, of: array)
        return queuedByteCount
    }

    /// Queues what the kernel did not take. An interrupted call took nothing. Neither did one for which the kernel had
    /// no memory (ENOBUFS, send(2)), which passes: libuv tries it again, too.
    @inline(never)
    private func enqueue(_ bytes: Span<UInt8>, of array: [UInt8]?, sent: Int) -> Int {
        let errno = errno
        guard sent >= 0 || errno == EAGAIN || errno == EINTR || errno == ENOBUFS else {
            failOutput()
            return -Int(errno)
        }
        let queue = WriteQueue(stream: self)
        self.queue = queue
        queue.append(bytes.extracting(droppingFirst: max(0, sent)), of: array)
        sendQueue()
        return queuedByteCount
    }

    /// From the first failure on nothing is sent, so that the peer has an exact prefix (contract clause 5).
    private func failOutput() {
        output = .failed
        queue = nil
    }

    private func sendQueue() {
        guard let handle = unsafe handle, let queue else { return }
        let status = unsafe queue.send(to: handle) { request, status in
            unsafe LibuvStream.didWrite(request, status)
        }
        // libuv refuses a write only for a handle that is closed or not connected, which this one is not, or for want
        // of memory, which Swift would not survive either.
        require(status == 0, "uv_write: \(status)")
    }

    private static func didWrite(_ request: UnsafeMutablePointer<uv_write_t>?, _ status: CInt) {
        // Retain 2, made when the write began.
        let queue = unsafe Unmanaged<WriteQueue>.fromOpaque(request!.pointee.data).takeRetainedValue()
        queue.removeFront()
        // After uv_close the callbacks still come, always before the close callback. Then no one is told.
        let stream = queue.stream
        if unsafe stream.handle != nil { stream.didSend(queue, status) }
    }

    private func didSend(_ queue: WriteQueue, _ status: CInt) {
        if status != 0 { return sendFailed(IOError(uv: status, call: "write")) }
        if queue.isEmpty {
            self.queue = nil
            if output == .finishing { sendFIN() }
        } else {
            sendQueue()
        }
        queueShrank(to: queuedByteCount)
    }

    private func sendFailed(_ error: IOError) {
        failOutput()
        queueFailed(error)
    }

    // MARK: Closing

    override func finish() {
        guard output == .open else { return }
        output = .finishing
        if queue == nil, !isConnecting { sendFIN() }
    }

    private func sendFIN() {
        guard let handle = unsafe handle else { return }
        output = .finished
        // Given back in its callback, which always comes, at the latest with ECANCELED from uv_close.
        let request = UnsafeMutablePointer<uv_shutdown_t>.allocate(capacity: 1)
        let status = unsafe uv_shutdown(request, handle) { request, status in
            guard let request = unsafe request else { return }
            let data = unsafe request.pointee.handle.pointee.data
            unsafe request.deallocate()
            guard let data = unsafe data else { return }
            unsafe Unmanaged<LibuvStream>.fromOpaque(data)._withUnsafeGuaranteedRef { $0.didSendFIN(status) }
        }
        if status != 0 {
            unsafe request.deallocate()
            didSendFIN(status)
        }
    }

    private func didSendFIN(_ status: CInt) {
        guard unsafe handle != nil else { return }
        switch status {
        case 0: outputEnded(nil)
        // The connection was lost before its FIN (tcp(7)). The socket may still know why.
        case UV_ENOTCONN.rawValue: outputEnded(IOError(call: "shutdown", errno: lossError(of: socket)))
        default: outputEnded(IOError(uv: status, call: "shutdown"))
        }
    }

    override func close(resetting: Bool) {
        guard socket >= 0 else { return }
        if resetting { setLinger(socket, to: .reset) }
        closeHandle()
    }

    private func closeHandle() {
        guard let handle = unsafe handle else { return }
        unsafe self.handle = nil
        socket = -1
        queue = nil
        output = .closed
        let isPipe = unsafe uv_handle_get_type(handle.asHandle) == UV_NAMED_PIPE
        if isPipe {
            unsafe handle.close { unsafe LibuvStream.didClose($0, uv_pipe_t.self) }
        } else {
            unsafe handle.close { unsafe LibuvStream.didClose($0, uv_tcp_t.self) }
        }
    }

    private static func didClose<Handle: UVHandle>(
        _ handle: UnsafeMutablePointer<uv_handle_t>?, _ kind: Handle.Type
    ) {
        // Retain 1.
        let stream = unsafe Unmanaged<LibuvStream>.fromOpaque(handle!.pointee.data).takeRetainedValue()
        unsafe handle.deallocateHandle(of: kind)
        stream.closed()
    }
}

// MARK: - libuv's callbacks for each read

// Functions rather than closures or methods, and always inlined: swift.md 6, 7 and 8.

/// libuv never passes NULL here. A check would be a handful of instructions for each message.
@inline(__always)
private func didRead(
    _ handle: UnsafeMutablePointer<uv_stream_t>?, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?
) {
    let data = unsafe handle.unsafelyUnwrapped.pointee.data.unsafelyUnwrapped
    unsafe Unmanaged<LibuvStream>.fromOpaque(data)._withUnsafeGuaranteedRef { stream in
        // One comparison for both: a count that is 0 or negative, and one that has filled the buffer.
        if UInt32(truncatingIfNeeded: count &- 1) >= stream.mostUncounted {
            return unsafe readRarely(stream, count, buffer)
        }
        unsafe deliver(stream, buffer.unsafelyUnwrapped.pointee.base, count)
    }
}

@inline(__always)
private func deliver(_ stream: LibuvStream, _ base: UnsafeMutablePointer<CChar>?, _ count: Int) {
    let start = unsafe UnsafeRawPointer(base.unsafelyUnwrapped).assumingMemoryBound(to: UInt8.self)
    // Made of a buffer, which does not check the count again.
    let buffer = unsafe UnsafeBufferPointer(start: start, count: count)
    stream.received(unsafe Span(_unsafeElements: buffer))
}

@inline(never)
private func readRarely(_ stream: LibuvStream, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?) {
    if count <= 0 { return stream.readNothing(count) }
    unsafe stream.filledBuffer(buffer.unsafelyUnwrapped.pointee.base, count)
}
