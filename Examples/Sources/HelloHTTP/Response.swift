import Foundation

/// What is sent: a page, or why there is none.
struct Response {
    let status: Status

    enum Status: String {
        case ok = "200 OK"
        case badRequest = "400 Bad Request"
        case notFound = "404 Not Found"
        case methodNotAllowed = "405 Method Not Allowed"
        case requestTimeout = "408 Request Timeout"
        case contentTooLarge = "413 Content Too Large"
        case uriTooLong = "414 URI Too Long"
        case misdirectedRequest = "421 Misdirected Request"
        case headerFieldsTooLarge = "431 Request Header Fields Too Large"
        case notImplemented = "501 Not Implemented"
        case versionNotSupported = "505 HTTP Version Not Supported"
    }

    init(_ status: Status) {
        self.status = status
    }

    /// Head and body; for HEAD, the same head alone (RFC 9110, section 9.3.2).
    func text(isHead: Bool = false, closes: Bool = false) -> String {
        let body = status == .ok ? "Hello, world!\n" : status.rawValue + "\n"
        var text = "HTTP/1.1 \(status.rawValue)\r\nDate: \(Self.date)\r\n"
        text += "Content-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n"
        if status == .methodNotAllowed { text += "Allow: GET, HEAD\r\n" }
        if closes { text += "Connection: close\r\n" }
        return text + "\r\n" + (isHead ? "" : body)
    }

    /// The time, as RFC 9110, section 5.6.7, wants it.
    private static var date: String {
        Date.now.formatted(
            Date.VerbatimFormatStyle(
                format: """
                    \(weekday: .abbreviated), \(day: .twoDigits) \(month: .abbreviated) \(year: .padded(4)) \
                    \(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased)):\(minute: .twoDigits):\
                    \(second: .twoDigits) GMT
                    """,
                locale: Locale(identifier: "en_US_POSIX"), timeZone: .gmt, calendar: Calendar(identifier: .gregorian)))
    }
}
