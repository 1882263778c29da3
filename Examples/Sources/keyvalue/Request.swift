/// Where one request's arguments are among a client's bytes: an array of bulk strings, or a line of words.
///
/// Source: the Redis serialization protocol (redis.io, "RESP protocol spec"), and for the texts of the errors what
/// a Redis server answers.
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
        let text: String
    }

    private(set) var arguments: [Range<Int>] = []
    /// The bytes of all of it.
    private(set) var length = 0

    /// Takes apart the request that `bytes` begin with; false if not all of it is there yet.
    ///
    /// A part is looked at again when more has come. What that costs is bounded by the line and the arguments.
    mutating func parse(_ bytes: Span<UInt8>) throws(Malformed) -> Bool {
        // The memory is kept: a request usually costs no allocation.
        arguments.removeAll(keepingCapacity: true)
        length = 0
        guard let line = try nextLine(bytes, ifTooLong: "too big inline request") else { return false }
        guard !line.isEmpty, bytes[line.lowerBound] == UInt8(ascii: "*") else {
            splitWords(bytes, line)
            return true
        }
        let count = try count(bytes, line, in: Int.min...Self.mostArguments, "invalid multibulk length")
        while arguments.count < count {
            guard let line = try nextLine(bytes, ifTooLong: "too big bulk count string") else { return false }
            guard !line.isEmpty, bytes[line.lowerBound] == UInt8(ascii: "$") else {
                let found = line.isEmpty ? " " : printable(bytes.extracting(line.lowerBound..<line.lowerBound + 1))
                throw Malformed(text: "expected '$', got '\(found)'")
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

    /// The line at `length`, without its end; nothing while it has none.
    private mutating func nextLine(_ bytes: Span<UInt8>, ifTooLong error: String) throws(Malformed) -> Range<Int>? {
        let start = length
        var end = start
        while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
        guard end - start <= Self.longestLine else { throw Malformed(text: error) }
        guard end < bytes.count else { return nil }
        length = end + 1
        let hasReturn = end > start && bytes[end - 1] == UInt8(ascii: "\r")
        return start..<(hasReturn ? end - 1 : end)
    }

    /// The number behind a line's first byte.
    private func count(
        _ bytes: Span<UInt8>, _ line: Range<Int>, in bounds: ClosedRange<Int>, _ error: String
    ) throws(Malformed) -> Int {
        let number = integer(bytes.extracting(line.lowerBound + 1..<line.upperBound))
        guard let number, bounds.contains(number) else { throw Malformed(text: error) }
        return number
    }

    /// An inline command: words with spaces between them. Quotation marks are letters like any others.
    private mutating func splitWords(_ bytes: Span<UInt8>, _ line: Range<Int>) {
        var start = line.lowerBound
        for index in line.lowerBound...line.upperBound {
            guard index == line.upperBound || bytes[index] == UInt8(ascii: " ") else { continue }
            if start < index { arguments.append(start..<index) }
            start = index + 1
        }
    }
}

/// A whole number in decimal digits, perhaps with a minus; nothing if it is none or does not fit.
func integer(_ bytes: Span<UInt8>) -> Int? {
    let isNegative = !bytes.isEmpty && bytes[0] == UInt8(ascii: "-")
    let first = isNegative ? 1 : 0
    guard bytes.count > first else { return nil }
    var number = 0
    for index in first..<bytes.count {
        let digit = bytes[index] &- UInt8(ascii: "0")
        guard digit < 10 else { return nil }
        // Downwards, since there is one more negative number than there are positive ones.
        let (product, isTooMuch) = number.multipliedReportingOverflow(by: 10)
        let (difference, isTooLow) = product.subtractingReportingOverflow(Int(digit))
        guard !isTooMuch, !isTooLow else { return nil }
        number = difference
    }
    if isNegative { return number }
    return number == .min ? nil : -number
}

/// Bytes as text for a name or an error's line: cut, and without what would end the line.
func printable(_ bytes: Span<UInt8>) -> String {
    let longest = 128
    var text = ""
    for index in 0..<min(bytes.count, longest) {
        let byte = bytes[index]
        text.unicodeScalars.append((0x20...0x7e).contains(byte) ? Unicode.Scalar(byte) : " ")
    }
    return text
}
