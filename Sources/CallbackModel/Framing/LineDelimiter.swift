/// What ends a line.
public enum LineDelimiter: Hashable, Sendable {
    /// A line feed; a carriage return before it belongs to the end too. What most text protocols accept.
    case newline
    /// A carriage return and a line feed. Either alone is part of the line.
    case crlf
    /// This byte: 0 in many protocols between programs.
    case byte(UInt8)
}

let carriageReturn = UInt8(ascii: "\r")
private let lineFeed = UInt8(ascii: "\n")

extension LineDelimiter {
    var lastByte: UInt8 {
        switch self {
        case .newline, .crlf: lineFeed
        case .byte(let byte): byte
        }
    }

    /// How many bytes of a line that has not ended may already be its end.
    var longestPart: Int {
        switch self {
        case .newline, .crlf: 1
        case .byte: 0
        }
    }

    /// The place of the last byte of the first end. `before` is what stands before `bytes`.
    @inline(__always)
    func firstEnd(in bytes: Span<UInt8>, behind before: Span<UInt8> = Span()) -> Int? {
        guard let end = bytes.firstIndex(of: lastByte) else { return nil }
        guard case .crlf = self else { return end }
        return firstPair(in: bytes, behind: before, from: end)
    }

    /// The same for both bytes, of which the first last one is at `first`.
    private func firstPair(in bytes: Span<UInt8>, behind before: Span<UInt8>, from first: Int) -> Int? {
        var end = first
        while !isCarriageReturn(at: end - 1, of: bytes, behind: before) {
            guard let next = bytes.extracting(droppingFirst: end + 1).firstIndex(of: lastByte) else { return nil }
            end += 1 + next
        }
        return end
    }

    private func isCarriageReturn(at index: Int, of bytes: Span<UInt8>, behind before: Span<UInt8>) -> Bool {
        if index >= 0 { return bytes[index] == carriageReturn }
        return !before.isEmpty && before[before.count - 1] == carriageReturn
    }

    /// How much of `bytes` is the line whose end has its last byte at `end`.
    ///
    /// Inlined, its cases would cost lines that have no carriage return as well (swift.md 7).
    @inline(never)
    func lineLength(in bytes: Span<UInt8>, endingAt end: Int) -> Int {
        switch self {
        case .newline: end > 0 && bytes[end - 1] == carriageReturn ? end - 1 : end
        case .crlf: end - 1
        case .byte: end
        }
    }
}
