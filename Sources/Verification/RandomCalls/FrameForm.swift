package import CallbackModel
internal import Glibc

private let carriageReturn: UInt8 = 13
private let lineFeed: UInt8 = 10

/// A way to cut a stream into frames, with a reader of its own for it: the plainest one, byte by byte, which shares
/// nothing with the library's framers and knows nothing of how the bytes came.
package struct FrameForm: Hashable, Sendable, CustomStringConvertible {
    package var kind: Kind
    /// The longest frame in bytes, as ``Connection/onLines(limit:delimiter:_:)`` and the others take it.
    package var limit: Int

    package init(_ kind: Kind, limit: Int) {
        self.kind = kind
        self.limit = limit
    }

    package enum Kind: Hashable, Sendable, CaseIterable {
        case newline, crlf, byte
        case uint8, uint16, uint16Little, uint32, uint32LittleCountingItself, uint64, varint, varintOfOne
        case varintCountingItself
        /// The user's own: a length of two bytes, big-endian, of which the first is not 0xFF.
        case parsed
    }

    package var description: String { "\(kind) up to \(limit)" }

    /// What ends a line of `.byte`.
    private static let lastByte: UInt8 = 7

    // MARK: The library's

    /// Lets `connection` cut by this form. `told` gets lines and messages, `parse` is the body of `onFrames`.
    package func begin(
        on connection: Connection, told: @escaping (Connection, Span<UInt8>) -> Void,
        parse: @escaping (Connection, inout ByteReader) throws(IOError) -> FrameStatus
    ) {
        if let prefix { return connection.onMessages(lengthPrefix: prefix, limit: limit, told) }
        switch kind {
        case .newline: connection.onLines(limit: limit, told)
        case .crlf: connection.onLines(limit: limit, delimiter: .crlf, told)
        case .byte: connection.onLines(limit: limit, delimiter: .byte(Self.lastByte), told)
        default: connection.onFrames(limit: limit, parse)
        }
    }

    private var prefix: LengthPrefix? {
        switch kind {
        case .newline, .crlf, .byte, .parsed: nil
        case .uint8: .uint8
        case .uint16: .uint16
        case .uint16Little: .uint16.littleEndian
        case .uint32: .uint32
        case .uint32LittleCountingItself: .uint32.littleEndian.countingItself
        case .uint64: .uint64
        case .varint: .varint()
        case .varintOfOne: .varint(maxByteCount: 1)
        case .varintCountingItself: .varint(maxByteCount: 4).countingItself
        }
    }

    // MARK: The reference

    /// What the front of a stream is.
    package enum Cut: Equatable {
        /// The beginning of a frame.
        case unfinished
        /// A frame: where its bytes are, and how many bytes it takes, with its delimiter or length.
        case frame(Range<Int>, end: Int)
        /// No frame: the connection closes with this errno.
        case refused(Int32)
    }

    /// Goes through `stream` from its first byte; places count from there.
    package func cut(_ stream: ArraySlice<UInt8>) -> Cut {
        var reader = Reference(form: self)
        for byte in stream {
            let cut = reader.read(byte)
            if cut != .unfinished { return cut }
        }
        return .unfinished
    }

    /// What one byte after the other makes of a frame.
    private struct Reference {
        let form: FrameForm
        private var count = 0
        private var last: UInt8 = 0
        private var value: UInt64 = 0
        /// How long the body behind the length is, once that is known.
        private var length: Int?
        private var prefixCount = 0

        init(form: FrameForm) { self.form = form }

        mutating func read(_ byte: UInt8) -> Cut {
            defer { last = byte }
            count += 1
            let isBehindReturn = last == carriageReturn
            switch form.kind {
            case .newline: return readLine(isEnd: byte == lineFeed, extra: isBehindReturn ? 1 : 0)
            case .crlf: return readLine(isEnd: byte == lineFeed && isBehindReturn, extra: 1)
            case .byte: return readLine(isEnd: byte == FrameForm.lastByte, extra: 0)
            case .parsed: return readParsed(byte)
            default: return readMessage(byte)
            }
        }

        /// `extra` bytes of the end stand before its last one.
        private func readLine(isEnd: Bool, extra: Int) -> Cut {
            if isEnd {
                let line = count - 1 - extra
                return line > form.limit ? .refused(EMSGSIZE) : .frame(0..<line, end: count)
            }
            // One more than the limit may still be the first half of the end.
            let slack = form.kind == .byte ? 0 : 1
            return count > form.limit + slack ? .refused(EMSGSIZE) : .unfinished
        }

        private mutating func readMessage(_ byte: UInt8) -> Cut {
            if length == nil {
                if let refused = readLength(byte) { return refused }
            }
            guard let length, count == prefixCount + length else { return .unfinished }
            return .frame(prefixCount..<count, end: count)
        }

        private mutating func readLength(_ byte: UInt8) -> Cut? {
            switch form.kind {
            case .varint, .varintOfOne, .varintCountingItself:
                let most = form.kind == .varint ? 10 : form.kind == .varintOfOne ? 1 : 4
                // The tenth byte has room for the last of 64 bits.
                if count == 10, byte & 0x7F > 1 { return .refused(EOVERFLOW) }
                value |= UInt64(byte & 0x7F) << UInt64(7 * (count - 1))
                if byte < 0x80 { return lengthIsWhole() }
                return count == most ? .refused(EOVERFLOW) : nil
            case .uint16Little, .uint32LittleCountingItself:
                value |= UInt64(byte) << UInt64(8 * (count - 1))
            default:
                value = value << 8 | UInt64(byte)
            }
            return count == form.fixedSize ? lengthIsWhole() : nil
        }

        private mutating func lengthIsWhole() -> Cut? {
            prefixCount = count
            if form.countsItself {
                guard value >= UInt64(count) else { return .refused(EBADMSG) }
                value -= UInt64(count)
            }
            guard value <= UInt64(form.limit) else { return .refused(EMSGSIZE) }
            length = Int(value)
            return nil
        }

        private mutating func readParsed(_ byte: UInt8) -> Cut {
            if count == 1, byte == FrameForm.refusedByte { return .refused(EPROTO) }
            if count <= 2 { value = value << 8 | UInt64(byte) }
            if count >= 2, count == 2 + Int(value) { return .frame(2..<count, end: count) }
            return count >= form.limit ? .refused(EMSGSIZE) : .unfinished
        }
    }

    fileprivate static let refusedByte: UInt8 = 0xFF

    private var fixedSize: Int {
        switch kind {
        case .uint8: 1
        case .uint16, .uint16Little: 2
        case .uint32, .uint32LittleCountingItself: 4
        default: 8
        }
    }

    private var countsItself: Bool { kind == .uint32LittleCountingItself || kind == .varintCountingItself }

    /// The body of `onFrames`, for what the reader has: how far the frame goes, or `nil`.
    package static func parse(_ bytes: [UInt8]) throws(IOError) -> Int? {
        if bytes.first == refusedByte { throw IOError(call: "parse", errno: EPROTO, detail: "0xFF00 bytes or more") }
        guard bytes.count >= 2 else { return nil }
        let end = 2 + Int(bytes[0]) << 8 + Int(bytes[1])
        return end <= bytes.count ? end : nil
    }

    // MARK: Bytes

    /// `content` as a frame, as long as its length fits; a line's content may hold ends, which make it several.
    package func frame(of content: some Collection<UInt8>) -> [UInt8] {
        switch kind {
        case .newline: return content + [lineFeed]
        case .crlf: return content + [carriageReturn, lineFeed]
        case .byte: return content + [Self.lastByte]
        case .varint, .varintOfOne, .varintCountingItself:
            var count = content.count
            if countsItself { count += count + 1 < 0x80 ? 1 : count + 2 < 0x4000 ? 2 : 3 }
            var length: [UInt8] = []
            while count >= 0x80 {
                length.append(UInt8(count & 0x7F) | 0x80)
                count >>= 7
            }
            return length + [UInt8(count)] + content
        default:
            let size = kind == .parsed ? 2 : fixedSize
            let count = content.count + (countsItself ? size : 0)
            let digits = (0..<size).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
            let isLittle = kind == .uint16Little || kind == .uint32LittleCountingItself
            return (isLittle ? digits : digits.reversed()) + content
        }
    }
}
