/// Where one request's arguments are: an array of bulk strings, or a line of words.
///
/// Source: the Redis serialization protocol (redis.io, "RESP protocol spec"), and for the texts of the errors and for
/// what the page leaves open what a Redis server answers (`Examples/Tests/Comparisons/keyvalue.py` compares).
struct Request {
    /// Bytes of a line: of an inline command, or of a length.
    static let longestLine = 4 * 1024
    /// Arguments, the command's name among them.
    static let mostArguments = 1_024
    /// Bytes of one argument.
    static let longestArgument = 1024 * 1024
    /// Bytes of the whole: what a client can make the server keep by never finishing a request.
    static let longest = 4 * 1024 * 1024

    /// It is no request, and where the next one begins cannot be known.
    struct Malformed: Error {
        let text: [UInt8]

        init(_ text: String) {
            self.text = Array(text.utf8)
        }

        init(expected: UInt8, got found: UInt8) {
            text = Array("expected '".utf8) + [expected] + Array("', got '".utf8) + [onOneLine(found)] + Array("'".utf8)
        }
    }

    private(set) var arguments: [Range<Int>] = []
    /// An inline command's words, without their quotation marks; `arguments` are places here if this is not empty, and
    /// otherwise in the bytes that were parsed.
    private(set) var words: [UInt8] = []
    /// The bytes of all of it.
    private(set) var length = 0

    /// Takes apart the request that `bytes` begin with; false if not all of it is there yet.
    ///
    /// A part is looked at again when more has come. What that costs is bounded by the line and the arguments.
    mutating func parse(_ bytes: Span<UInt8>) throws(Malformed) -> Bool {
        // The memory is kept: a request usually costs no allocation.
        arguments.removeAll(keepingCapacity: true)
        if !words.isEmpty { words.removeAll(keepingCapacity: true) }
        length = 0
        guard bytes[0] == UInt8(ascii: "*") else { return try parseInline(bytes) }
        guard let line = try nextLine(bytes, ifTooLong: "too big mbulk count string") else { return false }
        let count = try count(bytes, line, in: Int.min...Self.mostArguments, "invalid multibulk length")
        while arguments.count < count {
            guard let line = try nextLine(bytes, ifTooLong: "too big bulk count string") else { return false }
            guard bytes[line.lowerBound] == UInt8(ascii: "$") else {
                throw Malformed(expected: UInt8(ascii: "$"), got: bytes[line.lowerBound])
            }
            let most = min(Self.longestArgument, Self.longest - length)
            let end = length + (try self.count(bytes, line, in: 0...most, "invalid bulk length"))
            guard bytes.count >= end + 2 else { return false }
            arguments.append(length..<end)
            // Behind CR LF.
            length = end + 2
        }
        return true
    }

    /// The line at `length`, without its end, which is CR and one byte more; `nil` while that is not there.
    private mutating func nextLine(_ bytes: Span<UInt8>, ifTooLong error: String) throws(Malformed) -> Range<Int>? {
        let start = length
        var end = start
        while end < bytes.count, bytes[end] != UInt8(ascii: "\r") { end += 1 }
        guard end - start <= Self.longestLine else { throw Malformed(error) }
        guard end + 1 < bytes.count else { return nil }
        length = end + 2
        return start..<end
    }

    /// The number behind a line's first byte.
    private func count(
        _ bytes: Span<UInt8>, _ line: Range<Int>, in bounds: ClosedRange<Int>, _ error: String
    ) throws(Malformed) -> Int {
        let number = integer(bytes.extracting(line.lowerBound + 1..<line.upperBound))
        guard let number, bounds.contains(number) else { throw Malformed(error) }
        return number
    }

    /// A line that ends with LF or CR LF.
    private mutating func parseInline(_ bytes: Span<UInt8>) throws(Malformed) -> Bool {
        var end = 0
        while end < bytes.count, bytes[end] != UInt8(ascii: "\n") {
            // A Redis server looks for the line's end no further, and so never answers.
            guard bytes[end] != 0 else { throw Malformed("NUL in inline request") }
            end += 1
        }
        guard end <= Self.longestLine else { throw Malformed("too big inline request") }
        guard end < bytes.count else { return false }
        length = end + 1
        if end > 0, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        guard splitWords(bytes.extracting(..<end)) else { throw Malformed("unbalanced quotes in request") }
        return true
    }
}

extension Request {
    /// Splits a line at its spaces, as a Redis server does: between "…" with escapes, between '…' with only \' as one,
    /// and quotation marks may begin inside a word. False if a quotation mark has no partner, or no space behind it.
    private mutating func splitWords(_ line: Span<UInt8>) -> Bool {
        var index = 0
        while true {
            while index < line.count, isSpace(line[index]) { index += 1 }
            guard index < line.count else { return true }
            let start = words.count
            var quote: UInt8?
            word: while true {
                guard index < line.count else {
                    if quote != nil { return false }
                    break word
                }
                let byte = line[index]
                switch (byte, quote) {
                case (UInt8(ascii: "\\"), let mark?):
                    index += appendEscaped(line.extracting(index...), between: mark)
                    continue
                case (_, let mark?) where byte == mark:
                    index += 1
                    guard index == line.count || isSpace(line[index]) else { return false }
                    break word
                case (UInt8(ascii: "\""), nil), (UInt8(ascii: "'"), nil): quote = byte
                case (UInt8(ascii: " "), nil), (UInt8(ascii: "\t"), nil), (UInt8(ascii: "\r"), nil): break word
                default: words.append(byte)
                }
                index += 1
            }
            arguments.append(start..<words.count)
        }
    }

    /// Appends what the backslash at the beginning of `text` stands for; returns how many bytes that took.
    private mutating func appendEscaped(_ text: Span<UInt8>, between mark: UInt8) -> Int {
        let backslash = UInt8(ascii: "\\")
        guard text.count > 1, mark == UInt8(ascii: "\"") || text[1] == mark else {
            words.append(backslash)
            return 1
        }
        if text[1] == UInt8(ascii: "x"), text.count > 3, let high = hexDigit(text[2]), let low = hexDigit(text[3]) {
            words.append(high << 4 | low)
            return 4
        }
        switch text[1] {
        case UInt8(ascii: "n"): words.append(UInt8(ascii: "\n"))
        case UInt8(ascii: "r"): words.append(UInt8(ascii: "\r"))
        case UInt8(ascii: "t"): words.append(UInt8(ascii: "\t"))
        case UInt8(ascii: "b"): words.append(8)
        case UInt8(ascii: "a"): words.append(7)
        default: words.append(text[1])
        }
        return 2
    }

    /// isspace(3) in the C locale.
    private func isSpace(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || (9...13).contains(byte) }

    private func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
