import CallbackServer
import Glibc

/// What it costs to cut what was received: frames of one connection, without a server around them.
///
///     framing MODE ROUNDS
///
/// In each round a peer in the same process sends 4,000 bytes, which are 100 frames, and the loop reads them. Two runs
/// of different length tell what a frame costs.
@main
struct FramingCost {
    enum Mode: String, CaseIterable {
        /// Reads, and cuts nothing.
        case data
        /// Calls back for every 40 bytes, without looking at them.
        case callback
        /// Lines of 40 bytes, found by a loop over memchr in `onData`: the least that finds them, and one that does
        /// what the library does. It strips a carriage return, refuses a line that is too long, and stops when told to.
        case linesAtLeast = "lines-at-least"
        case linesByHand = "lines-by-hand"
        /// The same by the library.
        case lines
        /// Messages of 36 bytes behind a length of 4, by a loop in `onData`, and by the library.
        case messagesByHand = "messages-by-hand"
        case messages
    }

    static let frames = 100
    static let frameSize = 40

    static func main() throws(IOError) {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let mode = Mode(rawValue: arguments[1]), let rounds = Int(arguments[2]) else {
            print("usage: framing \(Mode.allCases.map(\.rawValue).joined(separator: " | ")) ROUNDS")
            exit(64)
        }
        var ends: [Int32] = [0, 0]
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else {
            throw IOError(call: "socketpair", errno: errno)
        }
        let loop = try EventLoop(engine: .epoll)
        let connection = try loop.adopt(connected: ends[0])
        let counter = Counter()
        listen(connection, mode, counter)
        let isMessages = mode == .messages || mode == .messagesByHand
        let frame = (isMessages ? [0, 0, 0, 36] : [65, 65, 65, 65]) + [UInt8](repeating: 65, count: 35) + [10]
        let input = [[UInt8]](repeating: frame, count: frames).flatMap { $0 }
        // `onOpen` and what else comes once.
        try loop.run(.noWait)
        for _ in 0..<rounds {
            guard unsafe send(ends[1], input, input.count, 0) == input.count else {
                throw IOError(call: "send", errno: errno)
            }
            try loop.run(.noWait)
        }
        let expected = mode == .data ? rounds : rounds * frames
        guard counter.count == expected else {
            print("\(counter.count) of \(expected) were told")
            exit(1)
        }
    }

    final class Counter {
        var count = 0
        /// What a server sets that pauses or closes in a line's callback.
        var isStopped = false
    }

    static let longestLine = 8192

    static func listen(_ connection: Connection, _ mode: Mode, _ counter: Counter) {
        let told: (Connection, Span<UInt8>) -> Void = { _, _ in counter.count += 1 }
        switch mode {
        case .data: connection.onData = told
        case .callback:
            connection.onData = { connection, bytes in
                var start = 0
                while start < bytes.count {
                    told(connection, bytes.extracting(start..<start + frameSize))
                    start += frameSize
                }
            }
        case .linesAtLeast:
            connection.onData = { connection, bytes in
                var rest = bytes
                while let end = firstNewline(rest) {
                    told(connection, rest.extracting(first: end))
                    rest = rest.extracting(droppingFirst: end + 1)
                }
            }
        case .linesByHand:
            connection.onData = { connection, bytes in
                var rest = bytes
                while !counter.isStopped, let end = firstNewline(rest) {
                    let length = end > 0 && rest[end - 1] == 13 ? end - 1 : end
                    guard length <= longestLine else { return connection.reset() }
                    told(connection, rest.extracting(first: length))
                    rest = rest.extracting(droppingFirst: end + 1)
                }
            }
        case .lines: connection.onLines(told)
        case .messagesByHand:
            connection.onData = { connection, bytes in
                var start = 0
                while start < bytes.count {
                    var length = 0
                    for index in start..<start + 4 { length = length << 8 | Int(bytes[index]) }
                    told(connection, bytes.extracting(start + 4..<start + 4 + length))
                    start += 4 + length
                }
            }
        case .messages: connection.onMessages(lengthPrefix: .uint32, told)
        }
    }

    static func firstNewline(_ bytes: Span<UInt8>) -> Int? {
        unsafe bytes.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress, let end = unsafe memchr(start, 10, bytes.count) else { return nil }
            return unsafe UnsafeRawPointer(end) - start
        }
    }
}
