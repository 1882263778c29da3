import CallbackServer
import Glibc
import TestSupport

/// One connection, whose peer decides where the stream is cut.
final class FrameStage {
    let loop: EventLoop
    let connection: Connection
    let peer: PlainClient
    var frames: [[UInt8]] = []
    private(set) var reason: CloseReason?

    init(_ engine: Engine) throws {
        let (near, peer) = try PlainClient.pair(isBlocking: false)
        self.peer = peer
        loop = try EventLoop(engine: engine)
        connection = try loop.adopt(connected: near)
        connection.onClose = { [unowned self] _, reason in self.reason = reason }
    }

    /// Lets the connection receive `bytes` by one read.
    func receive(_ bytes: ArraySlice<UInt8>) throws {
        try peer.send(Array(bytes))
        try turns(2)
    }

    func turns(_ count: Int) throws {
        for _ in 0..<count { try loop.run(.noWait) }
    }

    /// The peer finishes; runs until the connection has closed.
    func finish() throws {
        try peer.halfClose()
        try loop.run()
    }
}

extension CloseReason {
    /// The error of a failure.
    var errno: Int32? {
        if case .failed(let error) = self { error.errno } else { nil }
    }
}

/// The ways to cut a stream, each with its opposite.
enum FrameForm: CaseIterable {
    case lines, strictLines, zeroEnded, uint8, uint16, uint32LittleEndian, uint64, countingItself, varint, parsed

    private var prefix: LengthPrefix? {
        switch self {
        case .lines, .strictLines, .zeroEnded, .parsed: nil
        case .uint8: .uint8
        case .uint16: .uint16
        case .uint32LittleEndian: .uint32.littleEndian
        case .uint64: .uint64
        case .countingItself: .uint16.countingItself
        case .varint: .varint(maxByteCount: 4)
        }
    }

    func frame(_ connection: Connection, limit: Int, _ told: @escaping ([UInt8]) -> Void) {
        let body: (Connection, Span<UInt8>) -> Void = { _, bytes in told([UInt8](copying: bytes)) }
        switch self {
        case .lines: connection.onLines(limit: limit, body)
        case .strictLines: connection.onLines(limit: limit, delimiter: .crlf, body)
        case .zeroEnded: connection.onLines(limit: limit, delimiter: .byte(0), body)
        case .parsed:
            connection.onFrames(limit: limit) { connection, reader throws(IOError) in
                guard let count = reader.integer(UInt16.self), let bytes = reader.bytes(Int(count)) else {
                    return .needMore
                }
                body(connection, bytes)
                return .frame
            }
        default: connection.onMessages(lengthPrefix: prefix!, limit: limit, body)
        }
    }

    /// The limit that lets a message of `count` bytes pass, and no longer one.
    func limit(of count: Int) -> Int { self == .parsed ? count + 2 : count }

    func encode(_ message: [UInt8]) -> [UInt8] {
        switch self {
        case .lines: return message + [10]
        case .strictLines: return message + [13, 10]
        case .zeroEnded: return message + [0]
        default:
            var writer = ByteWriter()
            do throws(IOError) {
                try writer.lengthPrefixed(as: prefix ?? .uint16) { $0.bytes(message) }
            } catch {
                preconditionFailure("\(self): \(error)")
            }
            return writer.bytes
        }
    }

    /// One that this form can carry: the ends of lines are not in lines.
    func message(_ random: inout SplitMix64) -> [UInt8] {
        let isShort = Int.random(in: 0..<4, using: &random) > 0
        let count = Int.random(in: 0..<(isShort ? 12 : self == .uint8 ? 256 : 301), using: &random)
        return (0..<count).map { _ in
            let byte = UInt8.random(in: 0...255, using: &random)
            switch self {
            case .lines: return byte == 10 || byte == 13 ? 11 : byte
            // Lone halves of the end are part of a line, but not before its end.
            case .strictLines: return byte == 13 ? 10 : byte
            case .zeroEnded: return byte == 0 ? 1 : byte
            default: return byte
            }
        }
    }
}
