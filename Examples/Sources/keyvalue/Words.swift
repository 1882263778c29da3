// How a client's bytes are read as numbers and words, and shown in the line of an error: as a Redis server does.

/// A whole number in its one form: decimal digits that do not begin with 0 unless that is all, perhaps behind a minus.
/// `nil` if it is none or does not fit.
func integer(_ bytes: Span<UInt8>) -> Int? {
    if bytes.count == 1, bytes[0] == UInt8(ascii: "0") { return 0 }
    let isNegative = !bytes.isEmpty && bytes[0] == UInt8(ascii: "-")
    let first = isNegative ? 1 : 0
    guard bytes.count > first, bytes[first] != UInt8(ascii: "0") else { return nil }
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

/// A word in upper case, in which no letters but those of ASCII have a case; empty if it is longer than any of ours, or
/// no ASCII.
func upperCase(_ bytes: Span<UInt8>) -> String {
    var word = InlineArray<15, UInt8>(repeating: 0)
    guard bytes.count <= word.count else { return "" }
    for index in bytes.indices {
        let byte = bytes[index]
        guard byte < 0x80 else { return "" }
        word[index] = (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) ? byte - 0x20 : byte
    }
    guard let text = try? UTF8Span(validating: word.span.extracting(first: bytes.count)) else { return "" }
    return String(copying: text)
}

/// The bytes before the first NUL: all that C sees of a string.
func beforeNUL(_ bytes: Span<UInt8>) -> [UInt8] {
    var count = 0
    while count < bytes.count, bytes[count] != 0 { count += 1 }
    return [UInt8](copying: bytes.extracting(first: count))
}

/// A byte that may be part of an error's line: an end of a line in it would begin another answer.
func onOneLine(_ byte: UInt8) -> UInt8 {
    byte == UInt8(ascii: "\r") || byte == UInt8(ascii: "\n") ? UInt8(ascii: " ") : byte
}
