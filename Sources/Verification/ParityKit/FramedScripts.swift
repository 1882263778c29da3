internal import CallbackModel

extension Script.Framing {
    /// From now on the connection's `onData` is told whole frames.
    func cut(_ connection: Connection) {
        guard let told = connection.onData else { return }
        switch self {
        case .lines(let limit):
            connection.onLines(limit: limit, delimiter: .byte(10)) { connection, line in
                told(connection, ([UInt8](copying: line) + [10]).span)
            }
        case .messages(let limit):
            connection.onMessages(lengthPrefix: .uint16, limit: limit) { connection, message in
                let length = [UInt8(truncatingIfNeeded: message.count >> 8), UInt8(truncatingIfNeeded: message.count)]
                told(connection, (length + [UInt8](copying: message)).span)
            }
        }
    }

    /// Bytes that are whole frames, about as many as `content`.
    func frames(of content: Payload) -> Payload {
        switch self {
        case .lines: return content + .bytes([10])
        case .messages:
            let bytes = content.bytes
            var frames: [UInt8] = []
            for start in stride(from: 0, to: max(1, bytes.count), by: 60_000) {
                let message = bytes[start..<min(start + 60_000, bytes.count)]
                frames += [UInt8(message.count >> 8), UInt8(message.count & 255)] + message
            }
            return .bytes(frames)
        }
    }
}
