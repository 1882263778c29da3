internal import COpenSSL
internal import CallbackModel

/// What the connections of a loop share while one of them is served: the BIO that OpenSSL reads and writes through, and
/// a buffer each way. A connection at rest has neither.
///
/// The BIO is a way from one connection to another. What one has not read is removed before anything else happens:
/// `read` gives bytes only for the length of its body.
@safe final class Scratch {
    /// What the BIO's functions work on.
    @safe struct State {
        var input: UnsafeRawPointer? = nil
        var inputCount = 0
        var output: UnsafeMutablePointer<UInt8>
        var outputCount = 0
        var outputCapacity: Int
    }

    let bio: OpaquePointer
    private let state: UnsafeMutablePointer<State>
    @safe @exclusivity(unchecked) private var clear = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 0)

    /// 80 KiB: 64 KiB of what was written, in records of 16 KiB, with room for what each adds (RFC 8446, section 5.2:
    /// up to 256 bytes).
    private static let outputCapacity = 80 * 1024
    /// 1 MiB. One call of OpenSSL writes 64 KiB of records, or a flight of a handshake with its certificates.
    private static let mostOutput = 1024 * 1024
    /// A record that began in an earlier read: 16 KiB and what it adds.
    private static let longestRecord = 17 * 1024

    private init?() {
        guard let method = unsafe Self.method.pointer, let made = unsafe BIO_new(method) else { return nil }
        unsafe bio = made
        unsafe state = .allocate(capacity: 1)
        let output = UnsafeMutablePointer<UInt8>.allocate(capacity: Self.outputCapacity)
        unsafe state.initialize(to: State(output: output, outputCapacity: Self.outputCapacity))
        unsafe BIO_set_data(bio, state)
        unsafe BIO_set_init(bio, 1)
    }

    /// Each connection has a reference, so none uses the BIO any more.
    deinit {
        unsafe BIO_free(bio)
        unsafe state.pointee.output.deallocate()
        unsafe state.deallocate()
        unsafe clear.deallocate()
    }

    /// The one of the connection's loop; `nil` without memory.
    static func of(_ connection: Connection) -> Scratch? {
        if let scratch = connection.loopAttachment as? Scratch { return scratch }
        guard let made = Scratch() else { return nil }
        connection.loopAttachment = made
        return made
    }

    // MARK: Reading

    /// Lets OpenSSL read `bytes` while `body` runs. Returns how many of them it did not read.
    @inline(__always)
    func read<Result>(_ bytes: Span<UInt8>, _ body: () -> Result) -> (result: Result, rest: Int) {
        unsafe bytes.withUnsafeBytes { bytes in
            // Or an end in the middle of a handshake would pass for a wish to read (SSL_get_error(3)).
            unsafe callbackserver_BIO_clear_retry(bio)
            unsafe state.pointee.input = bytes.baseAddress
            unsafe state.pointee.inputCount = bytes.count
            let result = body()
            let rest = unsafe state.pointee.inputCount
            unsafe state.pointee.input = nil
            unsafe state.pointee.inputCount = 0
            return (result, rest)
        }
    }

    var hasInput: Bool { unsafe state.pointee.inputCount > 0 }

    /// Room for what `count` received bytes can hold in clear.
    func clearBuffer(for count: Int) -> UnsafeMutableBufferPointer<UInt8> {
        let needed = count + Self.longestRecord
        if clear.count < needed {
            unsafe clear.deallocate()
            clear = .allocate(capacity: needed)
        }
        return clear
    }

    // MARK: Writing

    /// Gives what OpenSSL has written to `body`. Nothing is written before it returns.
    @inline(__always)
    func removeOutput(_ body: (Span<UInt8>) -> Void) {
        let count = unsafe state.pointee.outputCount
        guard count > 0 else { return }
        unsafe state.pointee.outputCount = 0
        body(unsafe Span(_unsafeStart: UnsafePointer(state.pointee.output), count: count))
    }

    // MARK: Handshakes

    private var turn = Turn(number: 0, milliseconds: 0)
    private var stepsLeft = 0

    /// When steps were last made. Turns for which nothing was put off are told apart by the clock alone.
    private struct Turn: Equatable {
        let number: UInt64
        let milliseconds: UInt64
    }

    /// 4 steps of handshakes before other connections have their turn: each may take 0.3 to 0.5 ms.
    private static let stepsPerTurn = 4

    /// Whether another step may be made in this turn of the connection's loop.
    func mayStep(_ connection: Connection) -> Bool {
        let now = Turn(number: connection.turnNumber, milliseconds: connection.turnMilliseconds)
        if now != turn {
            turn = now
            stepsLeft = Self.stepsPerTurn
        }
        stepsLeft -= 1
        return stepsLeft >= 0
    }

    // MARK: The BIO

    /// One for the process, never given back.
    private static let method = Method()

    private struct Method: Sendable {
        private let address: UInt

        var pointer: OpaquePointer? { unsafe OpaquePointer(bitPattern: address) }

        init() {
            let made = unsafe BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "CallbackTLS")
            unsafe BIO_meth_set_read(made, readInput)
            unsafe BIO_meth_set_write(made, writeOutput)
            unsafe BIO_meth_set_ctrl(made, control)
            address = UInt(bitPattern: made)
        }
    }

    /// Gives `output` room for `count` bytes more; false beyond the limit.
    @inline(never)
    fileprivate static func makeRoom(for count: Int, in state: UnsafeMutablePointer<State>) -> Bool {
        let used = unsafe state.pointee.outputCount
        guard used + count <= mostOutput else { return false }
        let capacity = unsafe max(used + count, 2 * state.pointee.outputCapacity)
        let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
        unsafe larger.update(from: state.pointee.output, count: used)
        unsafe state.pointee.output.deallocate()
        unsafe state.pointee.output = larger
        unsafe state.pointee.outputCapacity = capacity
        return true
    }
}

private func state(of bio: OpaquePointer?) -> UnsafeMutablePointer<Scratch.State>? {
    unsafe BIO_get_data(bio)?.assumingMemoryBound(to: Scratch.State.self)
}

private let readInput: @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, CInt) -> CInt = {
    bio, buffer, size in
    guard let state = unsafe state(of: bio), let buffer = unsafe buffer, size > 0 else { return 0 }
    let count = unsafe min(Int(size), state.pointee.inputCount)
    guard count > 0, let input = unsafe state.pointee.input else {
        unsafe callbackserver_BIO_set_retry_read(bio)
        return -1
    }
    unsafe UnsafeMutableRawPointer(buffer).copyMemory(from: input, byteCount: count)
    unsafe state.pointee.input = input + count
    unsafe state.pointee.inputCount -= count
    return CInt(count)
}

private let writeOutput: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, CInt) -> CInt = { bio, bytes, size in
    guard let state = unsafe state(of: bio), let bytes = unsafe bytes, size > 0 else { return 0 }
    let count = Int(size)
    if unsafe state.pointee.outputCapacity - state.pointee.outputCount < count {
        guard unsafe Scratch.makeRoom(for: count, in: state) else { return -1 }
    }
    let end = unsafe state.pointee.output + state.pointee.outputCount
    unsafe UnsafeMutableRawPointer(end).copyMemory(from: bytes, byteCount: count)
    unsafe state.pointee.outputCount += count
    return size
}

/// BIO_ctrl(3): a flush succeeds; nothing else is known.
private let control: @convention(c) (OpaquePointer?, CInt, Int, UnsafeMutableRawPointer?) -> Int = {
    _, command, _, _ in
    command == BIO_CTRL_FLUSH ? 1 : 0
}
