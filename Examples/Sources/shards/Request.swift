import CallbackServer

/// What a shard does with its keys.
enum Operation: Sendable {
    case get([UInt8])
    case set([UInt8], to: [UInt8])
    case delete([UInt8])
    case count

    /// `nil` if it concerns all shards.
    var key: [UInt8]? {
        switch self {
        case .get(let key), .set(let key, _), .delete(let key): key
        case .count: nil
        }
    }
}

/// What a line asks for.
enum Request {
    case perform(Operation)
    case refuse(String)
    case quit

    init(_ line: Span<UInt8>) {
        let space = UInt8(ascii: " ")
        // A value may have spaces, and may be empty.
        let words = [UInt8](copying: line).split(separator: space, maxSplits: 2, omittingEmptySubsequences: false)
            .map { [UInt8]($0) }
        switch (String(decoding: words[0], as: UTF8.self), words.count) {
        case ("GET", 2): self = Self.checked(.get(words[1]))
        case ("SET", 3): self = Self.checked(.set(words[1], to: words[2]))
        case ("DEL", 2): self = Self.checked(.delete(words[1]))
        case ("COUNT", 1): self = .perform(.count)
        case ("QUIT", 1): self = .quit
        default: self = .refuse("a request is GET key, SET key value, DEL key, COUNT or QUIT")
        }
    }

    private static func checked(_ operation: Operation) -> Request {
        if let key = operation.key, !(1...Limits.key).contains(key.count) {
            return .refuse("a key has 1 to \(Limits.key) bytes")
        }
        if case .set(_, let value) = operation, value.count > Limits.value {
            return .refuse("a value has at most \(Limits.value) bytes")
        }
        return .perform(operation)
    }
}

/// What a request is answered, or one shard's part of that.
enum Answer: Sendable {
    case value([UInt8])
    case noValue
    case done
    case count(Int)
    case error(String)

    var line: [UInt8] {
        switch self {
        case .value(let value): Array("VALUE ".utf8) + value + Array("\n".utf8)
        case .noValue: Array("NONE\n".utf8)
        case .done: Array("OK\n".utf8)
        case .count(let count): Array("\(count)\n".utf8)
        case .error(let reason): Array("ERROR \(reason)\n".utf8)
        }
    }

    /// Adds what another shard says to the same request: numbers make a sum, and one error makes it an error.
    static func += (sum: inout Answer, other: Answer) {
        switch (sum, other) {
        case (.count(let one), .count(let two)): sum = .count(one + two)
        case (.error, _): break
        default: sum = other
        }
    }
}
