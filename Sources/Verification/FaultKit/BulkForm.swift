internal import CallbackModel
internal import ParityKit

/// How the connections of a listener are told what they send back.
enum BulkForm: CaseIterable {
    case bytes, lines, messages, parsed

    private static let lineFeed: UInt8 = 10
    /// More than a peer sends.
    private static let limit = 1 << 20

    /// Sends back whatever is received, by `onData` or frame by frame.
    func echo(_ connection: Connection) {
        connection.onDrain = { $0.resume() }
        switch self {
        case .bytes: connection.onData = { Self.pause($0, ifFull: $0.write($1)) }
        case .lines:
            connection.onLines(limit: Self.limit, delimiter: .byte(Self.lineFeed)) { connection, line in
                connection.write(line)
                Self.pause(connection, ifFull: connection.write([Self.lineFeed]))
            }
        case .messages:
            connection.onMessages(lengthPrefix: .uint16, limit: Self.limit) { connection, message in
                connection.write(Self.length(of: message.count))
                Self.pause(connection, ifFull: connection.write(message))
            }
        case .parsed:
            connection.onFrames(limit: Self.limit) { connection, reader throws(IOError) in
                guard let count = reader.integer(UInt16.self), let message = reader.bytes(Int(count)) else {
                    return .needMore
                }
                connection.write(Self.length(of: message.count))
                Self.pause(connection, ifFull: connection.write(message))
                return .frame
            }
        }
    }

    private static func pause(_ connection: Connection, ifFull status: WriteStatus) {
        if status == .saturated { connection.pause() }
    }

    private static func length(of count: Int) -> [UInt8] { [UInt8(count >> 8), UInt8(count & 0xFF)] }

    /// About `bytes` as whole frames of at most `largest` bytes, and where each ends.
    func stream(
        of bytes: [UInt8], largest: Int, _ generator: inout SplitMix
    ) -> (stream: [UInt8], ends: [Int]) {
        guard self != .bytes else { return (bytes, []) }
        var stream: [UInt8] = []
        var ends: [Int] = []
        var start = 0
        while start < bytes.count {
            let bound = min(largest, 1 << Int.random(in: 0...12, using: &generator))
            let end = min(bytes.count, start + Int.random(in: 0...bound, using: &generator))
            if self == .lines {
                stream += bytes[start..<end].lazy.map { $0 == Self.lineFeed ? 0 : $0 }
                stream.append(Self.lineFeed)
            } else {
                stream += Self.length(of: end - start) + bytes[start..<end]
            }
            ends.append(stream.count)
            start = end
        }
        return (stream, ends)
    }
}
