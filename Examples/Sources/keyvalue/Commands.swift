import CallbackServer
import ExampleSupport
import Foundation

/// What the commands do, and what they answer: as Redis does, word for word.
extension Client {
    func perform(_ request: Span<UInt8>, _ arguments: [Range<Int>]) {
        func bytes(_ index: Int) -> [UInt8] { [UInt8](copying: request.extracting(arguments[index])) }
        func key(_ index: Int) -> Key { Key(bytes: bytes(index)) }
        let name = upperCase(request.extracting(arguments[0]))
        switch (name, arguments.count) {
        case ("GET", 2): reply(store[key(1)])
        case ("SET", 3): set(key(1), to: bytes(2))
        case ("SET", 4...): setForTime(request, arguments)
        case ("DEL", 2...): reply((1..<arguments.count).count { store.remove(key($0)) })
        case ("EXISTS", 2...): reply((1..<arguments.count).count { store[key($0)] != nil })
        case ("INCR", 2): increment(key(1))
        case ("EXPIRE", 3...): expire(request, arguments)
        case ("TTL", 2):
            let key = key(1)
            guard store[key] != nil else { return reply(-2) }
            // To the nearest second.
            reply(store.timeLeft(key).map { ($0 + 500) / 1000 } ?? -1)
        case ("PING", 1): reply("+PONG")
        case ("PING", 2), ("ECHO", 2): reply(bytes(1))
        case ("QUIT", _):
            replyOK()
            hangUp()
        // The rest is what redis-cli and redis-benchmark ask of a server before they begin.
        case ("HELLO", 1): greet()
        case ("HELLO", _):
            guard let version = integer(request.extracting(arguments[1])) else {
                return reply(error: "Protocol version is not an integer or out of range")
            }
            if version == 2, arguments.count == 2 { greet() } else { reply("-NOPROTO unsupported protocol version") }
        case ("COMMAND", _): reply("*0")
        case ("CONFIG", 2...): configure(request, arguments)
        case ("GET", _), ("SET", _), ("DEL", _), ("EXISTS", _), ("INCR", _), ("EXPIRE", _), ("TTL", _), ("PING", _),
            ("ECHO", _), ("CONFIG", _):
            reply(error: "wrong number of arguments for '\(name.lowercased())' command")
        default: refuse(request, arguments)
        }
    }

    /// A name that is none of ours.
    private func refuse(_ request: Span<UInt8>, _ arguments: [Range<Int>]) {
        let name = beforeNUL(request.extracting(arguments[0]))
        // A web page can make a browser send commands, in a body or as a field. Nothing behind this is performed.
        if ["POST", "HOST:"].contains(upperCase(name.span)) { return hangUp() }
        let most = 128
        var shown: [UInt8] = []
        for argument in arguments.dropFirst() where shown.count < most {
            let text = beforeNUL(request.extracting(argument))
            shown += Array("'".utf8) + text.prefix(most - shown.count) + Array("' ".utf8)
        }
        let given = name.prefix(most)
        let error = Array("unknown command '".utf8) + given + Array("', with args beginning with: ".utf8) + shown
        reply(error: error.map(onOneLine))
    }

    @discardableResult
    private func set(_ key: Key, to value: [UInt8]) -> Bool {
        let isSet = store.set(key, to: value)
        if isSet { replyOK() } else { reply(Self.outOfMemory) }
        return isSet
    }

    private func increment(_ key: Key) {
        let value = store[key] ?? [UInt8(ascii: "0")]
        guard let number = integer(value.span) else { return reply(error: Self.noInteger) }
        let (sum, isTooMuch) = number.addingReportingOverflow(1)
        guard !isTooMuch else { return reply(error: "increment or decrement would overflow") }
        guard store.set(key, to: Array("\(sum)".utf8), keepingExpiry: true) else { return reply(Self.outOfMemory) }
        reply(sum)
    }

    /// SET with EX or PX: of several, the last counts.
    private func setForTime(_ request: Span<UInt8>, _ arguments: [Range<Int>]) {
        var unit = ""
        var time = 0..<0
        for index in stride(from: 3, to: arguments.count, by: 2) {
            let option = upperCase(beforeNUL(request.extracting(arguments[index])).span)
            let isKnown = (option == "EX" || option == "PX") && (unit.isEmpty || unit == option)
            guard isKnown, index + 1 < arguments.count else { return reply(error: "syntax error") }
            (unit, time) = (option, arguments[index + 1])
        }
        guard let number = integer(request.extracting(time)) else { return reply(error: Self.noInteger) }
        guard number > 0, let delay = Self.delay(number, inSeconds: unit == "EX") else {
            return reply(error: "invalid expire time in 'set' command")
        }
        let key = Key(bytes: [UInt8](copying: request.extracting(arguments[1])))
        if set(key, to: [UInt8](copying: request.extracting(arguments[2]))) { store.expire(key, after: delay) }
    }

    /// A time that has passed removes the key at once.
    private func expire(_ request: Span<UInt8>, _ arguments: [Range<Int>]) {
        guard arguments.count == 3 else {
            var option = beforeNUL(request.extracting(arguments[3]))
            while let last = option.last, last == UInt8(ascii: "\r") || last == UInt8(ascii: "\n") {
                option.removeLast()
            }
            return reply(error: Array("Unsupported option ".utf8) + option.map(onOneLine))
        }
        guard let number = integer(request.extracting(arguments[2])) else { return reply(error: Self.noInteger) }
        guard let delay = Self.delay(number, inSeconds: true) else {
            return reply(error: "invalid expire time in 'expire' command")
        }
        let key = Key(bytes: [UInt8](copying: request.extracting(arguments[1])))
        guard store[key] != nil else { return reply(0) }
        if delay > 0 { store.expire(key, after: delay) } else { store.remove(key) }
        reply(1)
    }

    private func configure(_ request: Span<UInt8>, _ arguments: [Range<Int>]) {
        guard upperCase(request.extracting(arguments[1])) == "GET" else {
            let given = beforeNUL(request.extracting(arguments[1])).prefix(128)
            let error = Array("unknown subcommand '".utf8) + given + Array("'. Try CONFIG HELP.".utf8)
            return reply(error: error.map(onOneLine))
        }
        guard arguments.count > 2 else {
            return reply(error: "wrong number of arguments for 'config|get' command")
        }
        var answers: [[UInt8]] = []
        for argument in arguments.dropFirst(2) {
            guard let value = ["SAVE": "", "APPENDONLY": "no"][upperCase(request.extracting(argument))] else {
                continue
            }
            answers += [[UInt8](copying: request.extracting(argument)), Array(value.utf8)]
        }
        reply("*\(answers.count)")
        for answer in answers { reply(answer) }
    }

    private func greet() {
        reply("*6")
        for text in ["server", "keyvalue", "version", "7.0.0", "proto"] { reply(Array(text.utf8)) }
        reply(2)
    }

    static let outOfMemory = "-OOM command not allowed when used memory > 'maxmemory'."

    private static let noInteger = "value is not an integer or out of range"

    /// The time that a client gives, in milliseconds. `nil` if its end, in milliseconds since 1970, is no number of 64
    /// bits: Redis keeps that.
    private static func delay(_ number: Int, inSeconds: Bool) -> Int? {
        let (milliseconds, isTooMuch) = number.multipliedReportingOverflow(by: inSeconds ? 1000 : 1)
        let now = Int(Date.now.timeIntervalSince1970 * 1000)
        return isTooMuch || milliseconds > Int.max - now ? nil : milliseconds
    }
}
