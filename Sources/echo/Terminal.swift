import Glibc

/// What the program writes for people: whole lines, at once, and nothing that a client could use to write to
/// the operator's terminal.
enum Terminal {
    /// Longer payloads are cut here, in bytes: a line that a person reads.
    static let longestPayload = 256

    /// Writes a line to standard output, past any buffer, so that it arrives in a pipe too.
    static func printLine(_ text: String) {
        write(text + "\n", to: STDOUT_FILENO)
    }

    /// Writes a line to standard error.
    static func printError(_ text: String) {
        write(text + "\n", to: STDERR_FILENO)
    }

    /// Ends the program.
    static func exit(_ status: Int32) -> Never {
        Glibc.exit(status)
    }

    /// Output that nobody takes (EPIPE, a full disk) is dropped: an echo server goes on without a reader.
    private static func write(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let rest = bytes[sent...]
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 { sent += count } else if errno != EINTR { return }
        }
    }

    /// The payload as one line of text: without its closing line break, with everything but printable text
    /// escaped (`\n`, `\u{1b}`, `\xff`), cut when it is long.
    static func printable(_ payload: Span<UInt8>) -> String {
        var bytes: [UInt8] = []
        for index in 0..<min(payload.count, longestPayload) { bytes.append(payload[index]) }
        let isCut = bytes.count < payload.count
        if !isCut, bytes.last == UInt8(ascii: "\n") {
            bytes.removeLast()
            if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        }
        let text = escaped(bytes, isCut: isCut)
        return isCut ? "\(text)… (\(payload.count) bytes)" : text
    }

    private static func escaped(_ bytes: [UInt8], isCut: Bool) -> String {
        var text = ""
        var parser = Unicode.UTF8.ForwardParser()
        var iterator = bytes.makeIterator()
        var position = 0
        while true {
            switch parser.parseScalar(from: &iterator) {
            case .valid(let encoded):
                append(UTF8.decode(encoded), to: &text)
                position += encoded.count
            case .error(let length):
                // The cut may have gone through a character: that is no fault of the client's.
                if isCut, position + length == bytes.count { return text }
                for byte in bytes[position..<position + length] {
                    text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
                }
                position += length
            case .emptyInput:
                return text
            }
        }
    }

    private static func append(_ scalar: Unicode.Scalar, to text: inout String) {
        switch scalar {
        case "\n": text += "\\n"
        case "\r": text += "\\r"
        case "\t": text += "\\t"
        case "\\": text += "\\\\"
        default:
            switch scalar.properties.generalCategory {
            // Beside the control characters: what turns the direction of text around or has no shape.
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned:
                text += "\\u{\(String(scalar.value, radix: 16))}"
            default:
                text.unicodeScalars.append(scalar)
            }
        }
    }
}
