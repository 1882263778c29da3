import CallbackServer
import ExampleSupport

/// What the commands do, and what they answer: as Redis does, word for word where a client might look.
extension Client {
    func perform(_ request: Span<UInt8>, _ arguments: [Range<Int>]) {
        func word(_ index: Int) -> String {
            // Nothing that is no text is a word of ours.
            guard let text = try? UTF8Span(validating: request.extracting(arguments[index])) else { return "" }
            return String(copying: text).uppercased()
        }
        func bytes(_ index: Int) -> [UInt8] { [UInt8](copying: request.extracting(arguments[index])) }
        func key(_ index: Int) -> Key { Key(bytes: bytes(index)) }
        func number(_ index: Int) -> Int? { integer(request.extracting(arguments[index])) }
        let name = word(0)
        switch (name, arguments.count) {
        case ("GET", 2): reply(store[key(1)])
        case ("SET", 3): set(key(1), to: bytes(2))
        case ("SET", 5) where ["EX", "PX"].contains(word(3)):
            guard let time = number(4) else { return reply(error: "value is not an integer or out of range") }
            guard let delay = Self.delay(time, inSeconds: word(3) == "EX"), time > 0 else {
                return reply(error: "invalid expire time in 'set' command")
            }
            if set(key(1), to: bytes(2)) { store.expire(key(1), after: delay) }
        case ("SET", 4...): reply(error: "syntax error")
        case ("DEL", 2...): reply((1..<arguments.count).count { store.remove(key($0)) })
        case ("EXISTS", 2...): reply((1..<arguments.count).count { store[key($0)] != nil })
        case ("INCR", 2): increment(key(1))
        case ("EXPIRE", 3):
            guard let time = number(2) else { return reply(error: "value is not an integer or out of range") }
            guard let delay = Self.delay(time, inSeconds: true) else {
                return reply(error: "invalid expire time in 'expire' command")
            }
            expire(key(1), after: delay)
        case ("TTL", 2):
            let key = key(1)
            guard store[key] != nil else { return reply(-2) }
            // To the nearest second.
            reply(store.timeLeft(key).map { Int(($0 + .milliseconds(500)).components.seconds) } ?? -1)
        case ("PING", 1): reply("+PONG")
        case ("PING", 2), ("ECHO", 2): reply(bytes(1))
        case ("QUIT", _):
            reply("+OK")
            hangUp()
        // The rest is what redis-cli and redis-benchmark ask of a server before they begin.
        case ("HELLO", 1): greet()
        case ("HELLO", 2) where number(1) == 2: greet()
        case ("HELLO", _): reply("-NOPROTO unsupported protocol version")
        case ("COMMAND", _): reply("*0")
        case ("CONFIG", 3) where word(1) == "GET":
            guard let value = ["SAVE": "", "APPENDONLY": "no"][word(2)] else { return reply("*0") }
            reply("*2")
            reply(bytes(2))
            reply(Array(value.utf8))
        case ("GET", _), ("SET", _), ("DEL", _), ("EXISTS", _), ("INCR", _), ("EXPIRE", _), ("TTL", _), ("PING", _),
            ("ECHO", _):
            reply(error: "wrong number of arguments for '\(name.lowercased())' command")
        default:
            let shown = (1..<arguments.count).prefix(8).map { "'\(printable(request.extracting(arguments[$0])))' " }
            let given = printable(request.extracting(arguments[0]))
            reply(error: "unknown command '\(given)', with args beginning with: \(shown.joined())")
        }
    }

    @discardableResult
    private func set(_ key: Key, to value: [UInt8]) -> Bool {
        let isSet = store.set(key, to: value)
        reply(isSet ? "+OK" : Self.outOfMemory)
        return isSet
    }

    private func increment(_ key: Key) {
        let value = store[key] ?? [UInt8(ascii: "0")]
        guard let number = integer(value.span) else { return reply(error: "value is not an integer or out of range") }
        let (sum, isTooMuch) = number.addingReportingOverflow(1)
        guard !isTooMuch else { return reply(error: "increment or decrement would overflow") }
        guard store.set(key, to: Array("\(sum)".utf8), keepingExpiry: true) else { return reply(Self.outOfMemory) }
        reply(sum)
    }

    /// A time that has passed removes the key at once.
    private func expire(_ key: Key, after delay: Duration) {
        guard store[key] != nil else { return reply(0) }
        if delay > .zero { store.expire(key, after: delay) } else { store.remove(key) }
        reply(1)
    }

    private func greet() {
        reply("*6")
        for text in ["server", "keyvalue", "version", "7.0.0", "proto"] { reply(Array(text.utf8)) }
        reply(2)
    }

    private static let outOfMemory = "-OOM command not allowed when used memory > 'maxmemory'."

    /// The longest time to live that is understood: a hundred years.
    private static let longestSeconds = 100 * 365 * 24 * 3600

    /// The time that a client gives; nothing if it is longer than that.
    private static func delay(_ number: Int, inSeconds: Bool) -> Duration? {
        let seconds = inSeconds ? number : number / 1000
        guard (-longestSeconds...longestSeconds).contains(seconds) else { return nil }
        return inSeconds ? .seconds(number) : .milliseconds(number)
    }
}
