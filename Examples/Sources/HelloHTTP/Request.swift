import CallbackServer

/// The head of a request, line by line (RFC 9112).
struct Request {
    /// Bytes of a head, its lines' ends not counted.
    static let longestHead = 8 * 1024

    /// Why a request is not answered with a page; the connection closes then, since its next one may not be found.
    struct Refusal: Error {
        let status: Response.Status
    }

    private let scheme: String
    private(set) var isHead = false
    private(set) var path: ArraySlice<UInt8> = []
    /// Whether the client wants the connection to close behind the answer.
    private(set) var closes = false
    private(set) var hasBegun = false
    private var hostCount = 0
    private var contentLength: ArraySlice<UInt8>?
    private var transferCodings: [ArraySlice<UInt8>] = []
    private var minorVersion: UInt8 = 1
    private var size = 0

    /// `scheme` is what the server's own URIs begin with, in lower case.
    init(scheme: String) {
        self.scheme = scheme
    }

    /// What a server knows of these without having a use for them here (RFC 9110, section 9.1, and RFC 5789).
    private static let otherMethods = ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]

    /// Whether the line was the empty one behind the head.
    mutating func take(_ line: ArraySlice<UInt8>) throws(Refusal) -> Bool {
        size += line.count
        guard size <= Self.longestHead else {
            noteMethod(line.span)
            throw Refusal(status: hasBegun ? .headerFieldsTooLarge : .uriTooLong)
        }
        if !line.isEmpty {
            if hasBegun { try takeField(line) } else { try takeFirst(line) }
            hasBegun = true
            return false
        }
        // Empty lines before a request are passed over (RFC 9112, section 2.2).
        guard hasBegun else { return false }
        try takeEnd()
        return true
    }

    /// The beginning of a line: enough to tell HEAD, whose answer has no body, whatever is wrong with the rest.
    mutating func noteMethod(_ beginning: Span<UInt8>) {
        if !hasBegun { isHead = beginning.extracting(first: min(beginning.count, 5)).elementsEqual("HEAD ") }
    }

    private mutating func takeFirst(_ line: ArraySlice<UInt8>) throws(Refusal) {
        noteMethod(line.span)
        let words = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard words.count == 3, Grammar.isToken(words[0]), let version = Grammar.version(words[2]),
            let target = Target(words[1], isForConnect: words[0].elementsEqual("CONNECT".utf8), scheme: scheme)
        else { throw Refusal(status: .badRequest) }
        guard version.major == 1 else { throw Refusal(status: .versionNotSupported) }
        minorVersion = version.minor
        if minorVersion == 0 { closes = true }
        guard isHead || words[0].elementsEqual("GET".utf8) else {
            let isKnown = Self.otherMethods.contains { $0.utf8.elementsEqual(words[0]) }
            throw Refusal(status: isKnown ? .methodNotAllowed : .notImplemented)
        }
        switch target {
        case .path(let path): self.path = path
        // For OPTIONS alone.
        case .server: throw Refusal(status: .badRequest)
        case .elsewhere: throw Refusal(status: .misdirectedRequest)
        }
    }

    private mutating func takeField(_ line: ArraySlice<UInt8>) throws(Refusal) {
        // No space before the colon, and no line that continues another (RFC 9112, section 5).
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), Grammar.isToken(line[..<colon]),
            let value = Grammar.fieldValue(line[(colon + 1)...])
        else { throw Refusal(status: .badRequest) }
        let name = line[..<colon]
        if Grammar.isSame(name, "host") {
            hostCount += 1
            guard Grammar.isHost(value) else { throw Refusal(status: .badRequest) }
        } else if Grammar.isSame(name, "connection") {
            if Grammar.elements(value).contains(where: { Grammar.isSame($0, "close") }) { closes = true }
        } else if Grammar.isSame(name, "transfer-encoding") {
            transferCodings.append(value)
        } else if Grammar.isSame(name, "content-length") {
            // The same number again is what some proxies make of two such fields (RFC 9110, section 8.6).
            for element in Grammar.elements(value) {
                guard Grammar.isNumber(element), contentLength ?? element == element else {
                    throw Refusal(status: .badRequest)
                }
                contentLength = element
            }
        }
    }

    private func takeEnd() throws(Refusal) {
        // Every HTTP/1.1 request names its host, and none names two (RFC 9112, section 3.2).
        guard hostCount == 1 || hostCount == 0 && minorVersion == 0 else { throw Refusal(status: .badRequest) }
        if !transferCodings.isEmpty {
            // Two ends for one body, or one that the version does not know: somebody lies (RFC 9112, section 6.1).
            guard contentLength == nil, minorVersion > 0 else { throw Refusal(status: .badRequest) }
            let isChunked = transferCodings.count == 1 && Grammar.isSame(transferCodings[0], "chunked")
            guard isChunked else { throw Refusal(status: .notImplemented) }
        }
        // A page is asked for without a body; what follows would have to be read as one.
        let hasBody = !transferCodings.isEmpty || contentLength?.contains { $0 != UInt8(ascii: "0") } == true
        if hasBody { throw Refusal(status: .contentTooLarge) }
    }
}

/// What a request is for (RFC 9112, section 3.2).
enum Target {
    case path(ArraySlice<UInt8>)
    /// `*`, the server itself.
    case server
    /// A URI of another scheme, or another server's host and port.
    case elsewhere

    /// `nil` if it is none.
    init?(_ text: ArraySlice<UInt8>, isForConnect: Bool, scheme: String) {
        if isForConnect {
            // A host and a port, neither of them empty.
            guard Grammar.isHost(text), let colon = text.lastIndex(of: UInt8(ascii: ":")), colon > text.startIndex,
                text.last.map(Grammar.isDigit) == true
            else { return nil }
            self = .elsewhere
        } else if text.elementsEqual("*".utf8) {
            self = .server
        } else if text.first == UInt8(ascii: "/") {
            guard let path = Self.path(text) else { return nil }
            self = .path(path)
        } else {
            self.init(absolute: text, scheme: scheme)
        }
    }

    private init?(absolute text: ArraySlice<UInt8>, scheme: String) {
        guard let colon = text.firstIndex(of: UInt8(ascii: ":")), Grammar.isScheme(text[..<colon]) else { return nil }
        let rest = text[(colon + 1)...]
        guard Grammar.isSame(text[..<colon], scheme) else {
            guard Grammar.isMade(of: { Grammar.isPathByte($0) || "/?[]".utf8.contains($0) }, rest) else { return nil }
            self = .elsewhere
            return
        }
        guard rest.starts(with: "//".utf8) else { return nil }
        let authority = rest.dropFirst(2).prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        // No user, who is there to deceive, and a host (RFC 9110, sections 4.2.1 and 4.2.4).
        guard Grammar.isHost(authority), let first = authority.first, first != UInt8(ascii: ":"),
            let path = Self.path(text[authority.endIndex...])
        else { return nil }
        self = .path(path.isEmpty ? ArraySlice("/".utf8) : path)
    }

    /// The path before the query.
    private static func path(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        let path = text.prefix { $0 != UInt8(ascii: "?") }
        let query = text[path.endIndex...].dropFirst()
        guard Grammar.isMade(of: { Grammar.isPathByte($0) || $0 == UInt8(ascii: "/") }, path),
            Grammar.isMade(of: { Grammar.isPathByte($0) || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }, query)
        else { return nil }
        return path
    }
}
