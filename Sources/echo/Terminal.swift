import CallbackServer
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
        guard payload.count <= longestPayload else {
            return "\(String(escaping: payload, limit: longestPayload))… (\(payload.count) bytes)"
        }
        var count = payload.count
        if count > 0, payload[count - 1] == UInt8(ascii: "\n") {
            count -= 1
            if count > 0, payload[count - 1] == UInt8(ascii: "\r") { count -= 1 }
        }
        return String(escaping: payload.extracting(first: count))
    }
}
