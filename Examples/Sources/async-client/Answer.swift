import ArgumentParser
import CallbackAsync
import CallbackServer
import Foundation

/// A URL of the command line.
struct Target: ExpressibleByArgument, Sendable {
    let text: String
    let host: String
    let port: Int
    /// What goes into the field Host.
    let authority: String
    /// With the query.
    let path: String

    init?(argument: String) {
        guard let url = URLComponents(string: argument, encodingInvalidCharacters: false),
            url.scheme?.lowercased() == "http", url.user == nil, url.password == nil,
            let name = url.encodedHost, !name.isEmpty, (1...65_535).contains(url.port ?? 80)
        else { return nil }
        text = argument
        // An IPv6 address stands in brackets.
        host = name.hasPrefix("[") ? String(name.dropFirst().dropLast()) : name
        port = url.port ?? 80
        authority = url.port.map { "\(name):\($0)" } ?? name
        let query = url.percentEncodedQuery.map { "?\($0)" } ?? ""
        path = (url.percentEncodedPath.isEmpty ? "/" : url.percentEncodedPath) + query
    }
}

struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Reads one answer (RFC 9112). The body is counted and not kept.
@MainActor
struct Answer {
    private(set) var bodyCount = 0
    private let connection: Connection
    /// What has come and was not looked at yet: at most one read.
    private var rest: ArraySlice<UInt8> = []
    private var headLeft = Limits.head

    init(of connection: Connection) {
        self.connection = connection
    }

    /// Reads all of it, and returns its status.
    mutating func read() async throws -> Int {
        var (status, fields) = try await readHead()
        // Answers that only tell that one is to come.
        while status < 200 { (status, fields) = try await readHead() }
        if status == 204 || status == 304 { return status }
        if let coding = fields["transfer-encoding"] {
            guard coding.lowercased() == "chunked" else { throw Failure("an unknown transfer coding") }
            try await readChunks()
        } else if let length = fields["content-length"] {
            try await skip(Self.number(length, radix: 10))
        } else {
            while try await readMore() { try await skip(rest.count) }
        }
        return status
    }

    private mutating func readHead() async throws -> (Int, [String: String]) {
        let line = try await readLine()
        guard let match = line.wholeMatch(of: /HTTP\/1\.[01] ([1-9][0-9]{2})( .*)?/), let status = Int(match.1) else {
            throw Failure("no answer of HTTP/1")
        }
        var fields: [String: String] = [:]
        while true {
            let line = try await readLine()
            if line.isEmpty { return (status, fields) }
            guard let colon = line.firstIndex(of: ":") else { throw Failure("a field without a colon") }
            let name = line[..<colon].lowercased()
            let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
            // Fields of one name are one list (RFC 9110, 5.3). Of two lengths it makes what is no number.
            fields[name] = fields[name].map { "\($0), \(value)" } ?? value
        }
    }

    private mutating func readChunks() async throws {
        while true {
            headLeft = Limits.head
            // What follows a semicolon are extensions.
            let size = try await readLine().prefix { $0 != ";" }
            let count = try Self.number(size.trimmingCharacters(in: .whitespaces), radix: 16)
            if count == 0 { break }
            try await skip(count)
            guard try await readLine().isEmpty else { throw Failure("a chunk is longer than its size") }
        }
        // Fields may follow.
        while try await !readLine().isEmpty {}
    }

    /// Digits alone: `Int` would take a sign.
    private static func number(_ text: String, radix: Int) throws -> Int {
        guard let number = Int(text, radix: radix), text.first != "-", text.first != "+" else {
            throw Failure("a length that is no number")
        }
        return number
    }

    // MARK: Bytes

    /// The next line, without its end.
    private mutating func readLine() async throws -> String {
        var line: [UInt8] = []
        while line.last != UInt8(ascii: "\n") {
            if rest.isEmpty { try await needMore() }
            let end = rest.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? rest.endIndex
            headLeft -= end - rest.startIndex
            guard headLeft >= 0 else { throw Failure("a head of more than \(Limits.head) bytes") }
            line += rest[..<end]
            rest = rest[end...]
        }
        line.removeLast()
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        return String(decoding: line, as: UTF8.self)
    }

    /// Counts `count` bytes of the body.
    private mutating func skip(_ count: Int) async throws {
        guard count <= Limits.body - bodyCount else { throw Failure("a body of more than \(Limits.body) bytes") }
        var left = count
        while left > 0 {
            if rest.isEmpty { try await needMore() }
            let taken = min(left, rest.count)
            rest = rest.dropFirst(taken)
            bodyCount += taken
            left -= taken
        }
    }

    private mutating func needMore() async throws {
        guard try await readMore() else { throw Failure("the answer ends too early") }
    }

    /// Waits for bytes, if there are none; returns false at the end.
    private mutating func readMore() async throws -> Bool {
        if !rest.isEmpty { return true }
        for try await bytes in connection.bytes {
            rest = bytes[...]
            return true
        }
        return false
    }
}
