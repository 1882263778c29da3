/// The head of a request, line by line (RFC 9112).
struct Request {
    /// Bytes of a head, its lines' ends not counted.
    static let longestHead = 8 * 1024

    /// Why a request is not answered with a page; the connection closes then, since its next one may not be found.
    struct Refusal: Error {
        let status: Response.Status
    }

    private(set) var isHead = false
    private(set) var path = ""
    /// Whether the client wants the connection to close behind the answer.
    private(set) var closes = false
    private(set) var hasBegun = false
    private var hostCount = 0
    private var minorVersion = 1
    private var size = 0

    /// Whether the line was the empty one behind the head.
    mutating func take(_ line: ArraySlice<UInt8>) throws(Refusal) -> Bool {
        size += line.count
        guard size <= Self.longestHead else { throw Refusal(status: .headerFieldsTooLarge) }
        if !line.isEmpty {
            let text = String(decoding: line, as: UTF8.self)
            guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f || $0 == "\t" }) else {
                throw Refusal(status: .badRequest)
            }
            if hasBegun { try takeField(text) } else { try takeFirst(text) }
            hasBegun = true
            return false
        }
        // Empty lines before a request are passed over (RFC 9112, section 2.2).
        guard hasBegun else { return false }
        // Every HTTP/1.1 request names its host, once (section 3.2).
        guard minorVersion == 0 || hostCount == 1 else { throw Refusal(status: .badRequest) }
        return true
    }

    private mutating func takeFirst(_ line: String) throws(Refusal) {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, isToken(words[0]), words[1].hasPrefix("/"), words[2].hasPrefix("HTTP/") else {
            throw Refusal(status: .badRequest)
        }
        switch words[2] {
        case "HTTP/1.1": break
        case "HTTP/1.0": (minorVersion, closes) = (0, true)
        default: throw Refusal(status: .versionNotSupported)
        }
        guard words[0] == "GET" || words[0] == "HEAD" else { throw Refusal(status: .methodNotAllowed) }
        isHead = words[0] == "HEAD"
        path = String(words[1].prefix { $0 != "?" })
    }

    private mutating func takeField(_ line: String) throws(Refusal) {
        // No space before the colon, and no line that continues another (section 5).
        guard let colon = line.firstIndex(of: ":"), isToken(line[..<colon]) else { throw Refusal(status: .badRequest) }
        let value = line[line.index(after: colon)...]
        switch line[..<colon].lowercased() {
        case "host": hostCount += 1
        case "connection":
            let options = value.lowercased().split { $0 == "," || $0 == " " || $0 == "\t" }
            if options.contains("close") { closes = true }
        // A page is asked for without a body; what follows would have to be read as one.
        case "transfer-encoding": throw Refusal(status: .badRequest)
        case "content-length":
            guard value.allSatisfy({ $0 == "0" || $0 == " " }), value.contains("0") else {
                throw Refusal(status: .badRequest)
            }
        default: break
        }
    }

    /// What a method and a field's name are made of (RFC 9110, section 5.6.2).
    private func isToken(_ text: Substring) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"):
                    true
                default: "!#$%&'*+-.^_`|~".utf8.contains($0)
                }
            }
    }
}
