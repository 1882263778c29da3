/// A line of a client, as RFC 5321, section 4.1, has it.
struct Command {
    /// In upper case.
    let verb: String
    let argument: ArraySlice<UInt8>

    /// `nil` if it is none: a control character, or anything that is not ASCII (RFC 5321, section 2.3.1).
    init?(_ line: [UInt8]) {
        guard line.allSatisfy({ (0x20...0x7e).contains($0) }) else { return nil }
        let verb = line.prefix { $0 != UInt8(ascii: " ") }
        self.verb = String(decoding: verb, as: UTF8.self).uppercased()
        var argument = line[verb.endIndex...].drop { $0 == UInt8(ascii: " ") }
        while argument.last == UInt8(ascii: " ") { argument.removeLast() }
        self.argument = argument
    }

    /// What MAIL and RCPT have behind `FROM:` and `TO:`: a path in angle brackets, and parameters. `nil` if there is no
    /// such thing.
    func path(behind word: String) -> (path: ArraySlice<UInt8>, parameters: [String])? {
        guard String(decoding: argument.prefix(word.utf8.count), as: UTF8.self).uppercased() == word else { return nil }
        let rest = argument.dropFirst(word.utf8.count).drop { $0 == UInt8(ascii: " ") }
        guard rest.first == UInt8(ascii: "<"), let end = Self.end(ofPath: rest) else { return nil }
        let others = rest[(end + 1)...]
        guard others.isEmpty || others.first == UInt8(ascii: " ") else { return nil }
        let parameters = others.split(separator: UInt8(ascii: " ")).map {
            String(decoding: $0, as: UTF8.self).uppercased()
        }
        return (rest[(rest.startIndex + 1)..<end], parameters)
    }

    /// The place of the closing bracket: not one in quotes (RFC 5321, section 4.1.2).
    private static func end(ofPath bytes: ArraySlice<UInt8>) -> Int? {
        var isQuoted = false
        var isEscaped = false
        for (index, byte) in zip(bytes.indices, bytes) {
            switch byte {
            case _ where isEscaped: isEscaped = false
            case UInt8(ascii: "\\"): isEscaped = isQuoted
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: ">") where !isQuoted: return index
            default: break
            }
        }
        return nil
    }
}
