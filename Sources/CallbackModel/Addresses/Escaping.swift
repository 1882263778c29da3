// Text from outside, as it may be shown: one place for the descriptions of addresses and errors, for the programs and
// for users. And the way back, for addresses.

extension String {
    /// Bytes from outside, made fit for a terminal and for a line of a log.
    ///
    /// A peer that could send a line break to a log could forge an entry, and one that could send an escape sequence
    /// could write anywhere on the terminal. Printable text stays as it is. Everything else is escaped:
    ///
    /// - a backslash as `\\`, so that what is escaped can be told from what was sent;
    /// - a line feed, a carriage return and a tab as `\n`, `\r` and `\t`;
    /// - a character that has no shape, or that changes the direction of text, as `\u{202e}`: controls, formats,
    ///   fillers, unassigned and private characters, and a combining mark with nothing printed before it;
    /// - a byte that is no UTF-8 as `\xff`.
    ///
    /// - Parameters:
    ///   - bytes: what is to be shown.
    ///   - limit: how many bytes of it are shown at most; a character that the limit would cut is left out.
    ///
    /// Source: the general categories and the property Default_Ignorable_Code_Point of the Unicode Character Database
    /// (UAX #44).
    public init(escaping bytes: Span<UInt8>, limit: Int = .max) {
        let count = Swift.min(bytes.count, Swift.max(0, limit))
        self.init(escaping: Array(copying: bytes.extracting(first: count)), isCut: count < bytes.count)
    }

    /// Text from outside, made fit for a terminal and for a line of a log: ``init(escaping:limit:)`` of its UTF-8
    /// bytes.
    public init(escaping text: some StringProtocol) {
        self.init(escaping: Array(text.utf8), isCut: false)
    }

    /// The same for bytes that may end in the middle of a character, or for a sentence in which parts are escaped
    /// already.
    package init(escaping bytes: [UInt8], isCut: Bool = false, keepsBackslashes: Bool = false) {
        self = ""
        var parser = Unicode.UTF8.ForwardParser()
        var iterator = bytes.makeIterator()
        var position = 0
        var isAfterShape = false
        while true {
            switch parser.parseScalar(from: &iterator) {
            case .valid(let encoded):
                let scalar = UTF8.decode(encoded)
                if keepsBackslashes, scalar == "\\" {
                    unicodeScalars.append(scalar)
                    isAfterShape = true
                } else {
                    isAfterShape = append(scalar, isAfterShape: isAfterShape)
                }
                position += encoded.count
            case .error(let length):
                // The cut may have gone through a character: that is no fault of the peer's.
                if isCut, position + length == bytes.count { return }
                for byte in bytes[position..<position + length] { appendEscape(of: byte) }
                position += length
                isAfterShape = false
            case .emptyInput:
                return
            }
        }
    }

    /// As `\xff`: what an address needs for a byte that would be taken for something else.
    package mutating func appendEscape(of byte: UInt8) {
        self += (byte < 16 ? "\\x0" : "\\x") + String(byte, radix: 16)
    }

    /// Returns whether a combining mark may follow.
    private mutating func append(_ scalar: Unicode.Scalar, isAfterShape: Bool) -> Bool {
        switch scalar {
        case "\\": self += "\\\\"
        case " "..."~": unicodeScalars.append(scalar)
        case _ where scalar.hasShape && (isAfterShape || !scalar.properties.isGraphemeExtend):
            unicodeScalars.append(scalar)
        default:
            switch scalar {
            case "\n": self += "\\n"
            case "\r": self += "\\r"
            case "\t": self += "\\t"
            default: self += "\\u{\(String(scalar.value, radix: 16))}"
            }
            return false
        }
        return true
    }
}

extension Unicode.Scalar {
    /// Whether a reader sees it, and sees it where it stands.
    fileprivate var hasShape: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: false
        // Fillers and selectors are letters and marks by their category.
        default: !properties.isDefaultIgnorableCodePoint
        }
    }
}

extension [UInt8] {
    /// The bytes that `String(escaping:)` has made `text` of; `nil` if a backslash begins no escape.
    ///
    /// What need not be escaped may be, and what is not escaped stands for itself.
    package init?(unescaping text: some StringProtocol) {
        self = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\") else {
                append(byte)
                continue
            }
            switch rest.popFirst() {
            case UInt8(ascii: "\\"): append(byte)
            case UInt8(ascii: "n"): append(UInt8(ascii: "\n"))
            case UInt8(ascii: "r"): append(UInt8(ascii: "\r"))
            case UInt8(ascii: "t"): append(UInt8(ascii: "\t"))
            case UInt8(ascii: "x"):
                guard rest.count >= 2, let value = hexadecimal(rest.prefix(2)) else { return nil }
                append(UInt8(value))
                rest = rest.dropFirst(2)
            case UInt8(ascii: "u"):
                guard rest.popFirst() == UInt8(ascii: "{"), let end = rest.firstIndex(of: UInt8(ascii: "}")),
                    let value = hexadecimal(rest[..<end]), let scalar = Unicode.Scalar(value)
                else { return nil }
                append(contentsOf: UTF8.encode(scalar).map(Array.init) ?? [])
                rest = rest[(end + 1)...]
            default: return nil
            }
        }
    }
}

/// The number of 1 to 6 hexadecimal digits.
private func hexadecimal(_ digits: ArraySlice<UInt8>) -> UInt32? {
    guard (1...6).contains(digits.count) else { return nil }
    var value: UInt32 = 0
    for digit in digits {
        guard let number = Character(Unicode.Scalar(digit)).hexDigitValue else { return nil }
        value = value << 4 | UInt32(number)
    }
    return value
}
