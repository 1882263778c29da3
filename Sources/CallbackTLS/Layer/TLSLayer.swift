internal import COpenSSL
@_spi(Engine) internal import CallbackModel

/// TLS of one connection: an SSL of OpenSSL's between the connection and its driver.
@safe final class TLSLayer: ConnectionLayer {
    /// Which side of the handshake this is.
    enum Side {
        case server(ServerSettings, Handshakes?)
        case client(ClientSettings, ServerName)
    }

    let side: Side
    private let ssl: OpaquePointer
    private let scratch: Scratch
    // What each message touches is unchecked (swift.md 1).
    @safe @exclusivity(unchecked) private var records: SealedRecords
    /// Why the handshake failed, as far as it is known.
    private(set) var failure: TLS.HandshakeFailure.Cause?
    /// Its place among the handshakes of its listener.
    var handshakeNumber: UInt64?
    @safe @exclusivity(unchecked) private var isHandshaken = false
    @safe @exclusivity(unchecked) private var hasPeerEnded = false
    @safe @exclusivity(unchecked) private var hasReadSinceHandshake = false

    /// `nil` without memory, or for a server's name that cannot be one.
    init?(_ side: Side, on connection: Connection) {
        guard let scratch = Scratch.of(connection) else { return nil }
        ErrorQueue.clear()
        let made: OpaquePointer? =
            switch side {
            case .server(let settings, _): unsafe settings.makeSSL()
            case .client(let settings, let name): unsafe settings.makeSSL(name)
            }
        guard let ssl = unsafe made else { return nil }
        self.side = side
        unsafe self.ssl = ssl
        self.scratch = scratch
        records = SealedRecords(behind: connection.queuedByteCount)
        super.init()
        // SSL_set_bio(3) takes one reference if both are the same.
        unsafe BIO_up_ref(scratch.bio)
        unsafe SSL_set_bio(ssl, scratch.bio, scratch.bio)
        unsafe SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
        switch side {
        case .server: unsafe SSL_set_accept_state(ssl)
        case .client: unsafe SSL_set_connect_state(ssl)
        }
    }

    deinit {
        unsafe SSL_free(ssl)
    }

    /// The layer that an SSL belongs to, for OpenSSL's callbacks, which run only in calls of the layer's own.
    static func of(_ ssl: OpaquePointer) -> TLSLayer? {
        unsafe SSL_get_ex_data(ssl, 0).map { unsafe Unmanaged<TLSLayer>.fromOpaque($0).takeUnretainedValue() }
    }

    var serverSettings: ServerSettings? { if case .server(let settings, _) = side { settings } else { nil } }
    var isServer: Bool { serverSettings != nil }

    var keyLog: KeyLog? {
        switch side {
        case .server(let settings, _): settings.keyLog
        case .client(let settings, _): settings.keyLog
        }
    }

    private var handshakes: Handshakes? { if case .server(_, let handshakes) = side { handshakes } else { nil } }

    private var acceptsTruncation: Bool {
        switch side {
        case .server(let settings, _): settings.options.acceptsTruncation
        case .client(let settings, _): settings.options.acceptsTruncation
        }
    }

    /// What was agreed on; `nil` before the handshake is done.
    var info: TLS.Info? { isHandshaken ? unsafe TLS.Info(ssl) : nil }

    // MARK: The handshake

    override func begin() {
        handshakes?.begin(self)
        if !isServer, let connection { step([UInt8]().span, connection) }
    }

    override func received(_ bytes: Span<UInt8>, _ connection: Connection) {
        if isHandshaken { return open(bytes, connection) }
        guard scratch.mayStep(connection) else { return keep(bytes) }
        step(bytes, connection)
    }

    private enum Step {
        case waits
        case done
        case failed(TLS.HandshakeFailure.Cause)
    }

    private func step(_ bytes: Span<UInt8>, _ connection: Connection) {
        var step = Step.waits
        var rest = 0
        connection.measure(.handshake) {
            (step, rest) = scratch.read(bytes) { shakeHands() }
        }
        sendOutput(connection)
        switch step {
        case .waits: break
        // Its last message met a failure, and the connection closes.
        case .done where phase != .handshaking: break
        case .done:
            isHandshaken = true
            handshakes?.end(self)
            keepRenewedSession()
            opened()
            // What came behind the handshake in the same read.
            let rest = bytes.extracting(last: rest)
            if mayDeliver { open(rest, connection) } else { keep(rest) }
        case .failed(let cause): handshakeFailed(cause)
        }
    }

    private func shakeHands() -> Step {
        ErrorQueue.clear()
        let result = unsafe SSL_do_handshake(ssl)
        if result == 1 { return isPeerCertified ? .done : .failed(.certificate("the peer has shown none")) }
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .waits
        case SSL_ERROR_ZERO_RETURN: return .failed(.peerClosed)
        default: return .failed(unsafe .last(of: ssl))
        }
    }

    /// Whether the peer has shown a certificate, if it has to. OpenSSL verifies one only if there is one, and a
    /// configuration of the system may allow ciphers without (SSL_get_verify_result(3), BUGS).
    private var isPeerCertified: Bool {
        switch side {
        case .client(let settings, _) where !settings.verifies: true
        case .server(let settings, _) where !settings.options.clientCertificates.areRequired: true
        case .client, .server: unsafe SSL_get0_peer_certificate(ssl) != nil
        }
    }

    /// OpenSSL does not tell of a new ticket with which a resumed session of TLS 1.2 goes on.
    private func keepRenewedSession() {
        guard case .client(let settings, let name) = side, settings.options.resumesSessions else { return }
        guard unsafe SSL_version(ssl) == TLS1_2_VERSION, unsafe SSL_session_reused(ssl) == 1 else { return }
        if let session = unsafe SSL_get1_session(ssl) { unsafe settings.keep(session, for: name) }
    }

    private func handshakeFailed(_ cause: TLS.HandshakeFailure.Cause) {
        failure = cause
        failed(IOError(call: "SSL_do_handshake", errno: IOError.protocolError, detail: cause.detail))
    }

    /// The listener has too many handshakes, and this is the oldest.
    func giveWay() {
        failure = .tooMany
        connection?.shed()
    }

    // MARK: Reading

    private enum End {
        case none
        /// The peer's close_notify.
        case proper
        case failed(IOError)
    }

    /// Delivers at once all that `bytes` complete.
    private func open(_ bytes: Span<UInt8>, _ connection: Connection) {
        guard !hasPeerEnded, !bytes.isEmpty || hasUnread else { return }
        hasReadSinceHandshake = true
        let buffer = unsafe scratch.clearBuffer(for: bytes.count)
        var count = 0
        let (end, _) = scratch.read(bytes) { unsafe readRecords(into: buffer, &count) }
        sendOutput(connection)
        if count > 0, let start = buffer.baseAddress {
            deliver(unsafe Span(_unsafeStart: UnsafePointer(start), count: count), connection)
        }
        switch end {
        case .none: break
        case .proper:
            hasPeerEnded = true
            ended()
        case .failed(let error): failed(error)
        }
    }

    private func readRecords(into buffer: UnsafeMutableBufferPointer<UInt8>, _ count: inout Int) -> End {
        guard let start = buffer.baseAddress else { return .none }
        while true {
            ErrorQueue.clear()
            let result = unsafe SSL_read(ssl, start + count, CInt(clamping: buffer.count - count))
            guard result > 0 else { return end(of: result) }
            count += Int(result)
            // Nothing is left to be opened: saves the call that says so.
            if !scratch.hasInput, unsafe SSL_has_pending(ssl) == 0 { return .none }
        }
    }

    private func end(of result: CInt) -> End {
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .none
        case SSL_ERROR_ZERO_RETURN: return .proper
        default:
            // Read before anything is delivered: a callback may use OpenSSL too.
            return .failed(IOError(call: "SSL_read", errno: IOError.protocolError, detail: ErrorQueue.text()))
        }
    }

    /// A server sends its tickets as soon as the handshake is done (RFC 8446, section 4.6.1).
    override var awaitsInput: Bool {
        unsafe isHandshaken && !isServer && !hasReadSinceHandshake && SSL_version(ssl) == TLS1_3_VERSION
    }

    /// OpenSSL reads ahead: the beginning of the next record, or one behind the handshake.
    override var hasUnread: Bool { unsafe SSL_has_pending(ssl) == 1 }

    override func reachedEnd() {
        if !isHandshaken { return handshakeFailed(.peerClosed) }
        if hasPeerEnded { return }
        if acceptsTruncation { ended() } else { truncated() }
    }

    // MARK: Writing

    /// 64 KiB: four records, which leave in one send.
    private static let mostSealed = 64 * 1024

    override func seal(_ bytes: Span<UInt8>, _ connection: Connection) {
        var rest = bytes
        while true {
            let count = min(rest.count, Self.mostSealed)
            // The queue of errors need not be empty: a failure is final, and its error the last one.
            let result = unsafe rest.withUnsafeBytes { unsafe SSL_write(ssl, $0.baseAddress, CInt(count)) }
            guard result == count else {
                connection.dropFromLayer(rest.count)
                return failed(IOError(call: "SSL_write", errno: IOError.protocolError, detail: ErrorQueue.text()))
            }
            records.willHandOver(count)
            sendOutput(connection)
            rest = rest.extracting(droppingFirst: count)
            if rest.isEmpty { return }
            // They may have met a reset, or the loop's limit.
            guard phase == .open else { return connection.dropFromLayer(rest.count) }
        }
    }

    override func sealEnd() {
        ErrorQueue.clear()
        _ = unsafe SSL_shutdown(ssl)
        ErrorQueue.clear()
        if let connection { sendOutput(connection) }
    }

    @inline(__always)
    private func sendOutput(_ connection: Connection) {
        scratch.removeOutput { handOver($0, connection) }
    }

    override func handedOver(_ bytes: Span<UInt8>, queued: Int) {
        records.handedOver(bytes, queued: queued)
    }

    override var sealedByteCount: Int { records.clearCount }

    override func driverQueueChanged(to count: Int) {
        records.queueChanged(to: count)
    }

    // MARK: The end

    override func closed(_ reason: CloseReason) {
        guard !isHandshaken else { return }
        handshakes?.end(self)
        let cause = failure ?? .closed(reason)
        failure = cause
        guard let connection, isServer else { return }
        let name = unsafe SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { unsafe String(cString: $0) }
        let failure = TLS.HandshakeFailure(
            peer: connection.remoteAddress, serverName: name, cause: cause)
        handshakes?.tell(failure, of: connection)
    }

    override func abandoned() {
        handshakes?.end(self)
    }
}
