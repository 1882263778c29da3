@_spi(Engine) import CallbackModel
import CallbackServer
import Glibc
import ParityKit
import TestSupport
import Testing

/// A layer with something wrong must not pass.
@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `A broken layer` {
    @Test(arguments: [
        ("tcp_ping_pong", LayerBug.forgetsItsEnd), ("shutdown_eof", .forgetsItsEnd),
        ("local_reset_drops_the_queue", .tellsTooEarly), ("close_timeout", .tellsTooEarly),
        ("tcp_read_stop", .deliversTwice), ("echo_large", .losesTheSecondPart), ("tcp_ping_pong", .endsEarly),
    ])
    func `is seen`(name: String, bug: LayerBug) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let report = Parity.run(scenario, on: [Participant(.epoll).playing(.records(bug))])
        #expect(!report.isEqual)
    }

    @Test(
        arguments: Engine.allCases,
        [
            "tcp_ping_pong", "shutdown_eof", "local_reset_drops_the_queue", "close_timeout", "tcp_read_stop",
            "echo_large",
        ]
    )
    func `is no whole one`(engine: Engine, name: String) throws {
        let scenario = try #require(Scenario.all.first { $0.name == name })
        let report = Parity.run(scenario, on: [Participant(engine).playing(.records(nil))])
        #expect(report.isEqual, "\(report.divergences)")
    }
}

enum LayerBug: CaseIterable {
    /// FIN alone.
    case forgetsItsEnd
    /// Bytes are sent as soon as the layer has them.
    case tellsTooEarly
    case deliversTwice
    /// Of what comes in one read.
    case losesTheSecondPart
    /// Each record is taken for the last.
    case endsEarly
}

extension Form {
    /// Records with a length of two bytes in front; one of no bytes is the end.
    static func records(_ bug: LayerBug?) -> Form {
        Form(
            "records",
            over: Transport(
                listen: { loop, address, options, onConnection throws(IOError) in
                    try loop.listen(on: address, options: options) { connection in
                        connection.insert(RecordLayer(bug))
                        onConnection(connection)
                    }
                },
                connect: { loop, address, options throws(IOError) in
                    let connection = try loop.connect(to: address, options: options)
                    connection.insert(RecordLayer(bug))
                    return connection
                },
                layer: { socket, _ in RecordPeer(socket) }),
            obstacle: { _ in nil })
    }
}

/// What both sides know of records.
private enum Record {
    static let longest = 16_384
    /// What each side says first.
    static let hello = sealed("hello".utf8)

    static func sealed(_ content: some Collection<UInt8>) -> [UInt8] {
        [UInt8(content.count >> 8), UInt8(content.count & 255)] + content
    }

    /// Where the first record ends; `nil` if it is not whole.
    static func end(in bytes: [UInt8]) -> Int? {
        guard bytes.count >= 2 else { return nil }
        let end = 2 + Int(bytes[0]) << 8 + Int(bytes[1])
        return bytes.count >= end ? end : nil
    }

    /// The content of the first record, which is removed.
    static func open(_ bytes: inout [UInt8]) -> [UInt8]? {
        guard let end = end(in: bytes) else { return nil }
        defer { bytes.removeFirst(end) }
        return Array(bytes[2..<end])
    }
}

/// The side under test.
private final class RecordLayer: ConnectionLayer {
    private let bug: LayerBug?
    private var input: [UInt8] = []
    private var hasEnded = false
    /// Where records end, in sealed bytes and in written ones.
    private var ends: [(sealed: Int, clear: Int)] = []
    private var sealed = 0
    private var clear = 0
    private var sentClear = 0
    private var isHandshaken = false

    init(_ bug: LayerBug?) { self.bug = bug }

    override func begin() { if let connection { handOver(Record.hello.span, connection) } }

    override func received(_ bytes: Span<UInt8>, _ connection: Connection) {
        guard isHandshaken else { return greet(bytes, connection) }
        guard mayDeliver else { return keep(bytes) }
        input.append(copying: bytes)
        var content: [UInt8] = []
        var parts = 0
        while !hasEnded, let part = Record.open(&input) {
            hasEnded = part.isEmpty || bug == .endsEarly
            parts += 1
            if parts == 2, bug == .losesTheSecondPart { continue }
            content += bug == .deliversTwice ? part + part : part
        }
        if !content.isEmpty { deliver(content.span, connection) }
        if hasEnded { ended() }
    }

    private func greet(_ bytes: Span<UInt8>, _ connection: Connection) {
        input.append(copying: bytes)
        guard Record.open(&input) != nil else { return }
        isHandshaken = true
        let rest = input
        input = []
        opened()
        received(rest.span, connection)
    }

    override func reachedEnd() {
        if !hasEnded { truncated() }
    }

    override func seal(_ bytes: Span<UInt8>, _ connection: Connection) {
        var rest = bytes
        while !rest.isEmpty {
            guard phase == .open else { return connection.dropFromLayer(rest.count) }
            let count = min(rest.count, Record.longest)
            let record = Record.sealed([UInt8](copying: rest.extracting(first: count)))
            rest = rest.extracting(droppingFirst: count)
            clear += count
            send(record, connection)
        }
    }

    override func sealEnd() {
        if bug != .forgetsItsEnd, let connection { send(Record.sealed([]), connection) }
    }

    private func send(_ record: [UInt8], _ connection: Connection) {
        sealed += record.count
        ends.append((sealed, clear))
        handOver(record.span, connection)
    }

    override func handedOver(_ bytes: Span<UInt8>, queued: Int) { driverQueueChanged(to: queued) }

    override var sealedByteCount: Int { bug == .tellsTooEarly ? 0 : clear - sentClear }

    override func driverQueueChanged(to count: Int) {
        while let first = ends.first, first.sealed <= sealed - count {
            sentClear = first.clear
            ends.removeFirst()
        }
    }
}

/// The other side.
private final class RecordPeer: PeerLayer {
    private unowned let socket: PeerSocket
    private var input: [UInt8] = []
    private var content: [UInt8] = []
    private var output: [UInt8] = []
    private var contentOfOutput = 0
    private var hasEnded = false
    private var hasSaidEnd = false

    init(_ socket: PeerSocket) { self.socket = socket }

    func advance() {}

    func begin() throws(PeerFailure) {
        output = Record.hello
        while try !flush().get() { try socket.wait(POLLOUT, "send") }
        while Record.open(&input) == nil {
            try socket.wait(POLLIN, "recv")
            if try receiveMore().get() == 0 { throw .truncation }
        }
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Result<Int?, PeerFailure> {
        if output.isEmpty {
            contentOfOutput = min(bytes.count, Record.longest)
            output = Record.sealed(bytes.prefix(contentOfOutput))
        }
        return flush().map { $0 ? contentOfOutput : nil }
    }

    /// Whether all has left.
    private func flush() -> Result<Bool, PeerFailure> {
        while !output.isEmpty {
            switch output.withUnsafeBytes({ socket.sendPlain($0) }) {
            case .success(.some(let count)): output.removeFirst(count)
            case .success(nil): return .success(false)
            case .failure(let failure): return .failure(failure)
            }
        }
        return .success(true)
    }

    private func receiveMore() -> Result<Int?, PeerFailure> {
        var room = [UInt8](repeating: 0, count: 65_536)
        let answer = room.withUnsafeMutableBytes { socket.receivePlain($0) }
        if case .success(.some(let count)) = answer { input += room[..<count] }
        return answer
    }

    func receive(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int?, PeerFailure> {
        while content.isEmpty {
            if !hasEnded, let record = Record.open(&input) {
                content = record
                hasEnded = record.isEmpty
                continue
            }
            let answer = receiveMore()
            guard case .success(.some(let count)) = answer, count > 0 else {
                if case .success(0) = answer, !hasEnded { return .failure(.truncation) }
                return answer
            }
        }
        let count = min(bytes.count, content.count)
        bytes.copyBytes(from: content.prefix(count))
        content.removeFirst(count)
        return .success(count)
    }

    var hasInput: Bool { !content.isEmpty || Record.end(in: input) != nil }

    func end(mayWait: Bool) throws(PeerFailure) {
        if !hasSaidEnd { output += Record.sealed([]) }
        hasSaidEnd = true
        while try !flush().get(), mayWait { try socket.wait(POLLOUT, "send") }
    }
}
