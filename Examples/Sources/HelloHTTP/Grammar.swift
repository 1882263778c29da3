import CallbackServer

/// The rules of RFC 9110, RFC 9112 and RFC 3986 for a request's head. They are about bytes: to Unicode, two of them may
/// be one letter, and others the same letter.
enum Grammar {
    typealias Bytes = ArraySlice<UInt8>

    static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    static func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        isDigit(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte | 0x20)
    }

    /// Without a difference between the letters' cases; `word` is in lower case.
    static func isSame(_ bytes: Bytes, _ word: String) -> Bool {
        bytes.count == word.utf8.count && zip(bytes, word.utf8).allSatisfy { (isLetter($0) ? $0 | 0x20 : $0) == $1 }
    }

    /// RFC 9110, section 5.6.2: what a method and a field's name are made of.
    static func isToken(_ bytes: Bytes) -> Bool {
        !bytes.isEmpty && bytes.allSatisfy { isLetter($0) || isDigit($0) || "!#$%&'*+-.^_`|~".utf8.contains($0) }
    }

    /// RFC 9112, section 2.3: one digit each, and upper case.
    static func version(_ bytes: Bytes) -> (major: UInt8, minor: UInt8)? {
        let name = "HTTP/".utf8
        let digits = Array(bytes.dropFirst(name.count))
        guard bytes.starts(with: name), digits.count == 3, isDigit(digits[0]), digits[1] == UInt8(ascii: "."),
            isDigit(digits[2])
        else { return nil }
        return (digits[0] - UInt8(ascii: "0"), digits[2] - UInt8(ascii: "0"))
    }

    /// RFC 9110, section 5.5: the value without the spaces and tabs around it; `nil` if there is a control character in
    /// it. Bytes that are no ASCII have no meaning, and may be there.
    static func fieldValue(_ bytes: Bytes) -> Bytes? {
        guard bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == UInt8(ascii: "\t") }) else { return nil }
        return trimmed(bytes)
    }

    /// Section 5.6.3: optional white space is spaces and tabs.
    private static func trimmed(_ bytes: Bytes) -> Bytes {
        func isSpace(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        var bytes = bytes.drop(while: isSpace)
        while let last = bytes.last, isSpace(last) { bytes.removeLast() }
        return bytes
    }

    /// Section 5.6.1: a list.
    static func elements(_ bytes: Bytes) -> [Bytes] {
        bytes.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map(trimmed)
    }

    /// Section 8.6: one digit or more.
    static func isNumber(_ bytes: Bytes) -> Bool { !bytes.isEmpty && bytes.allSatisfy(isDigit) }

    // MARK: Parts of a URI (RFC 3986)

    /// `pchar` of section 3.3, without its percent-encoded ones.
    static func isPathByte(_ byte: UInt8) -> Bool {
        isNameByte(byte) || byte == UInt8(ascii: ":") || byte == UInt8(ascii: "@")
    }

    /// `unreserved` and `sub-delims` of section 2.
    private static func isNameByte(_ byte: UInt8) -> Bool {
        isLetter(byte) || isDigit(byte) || "-._~!$&'()*+,;=".utf8.contains(byte)
    }

    /// Whether all bytes are such, or percent-encoded.
    static func isMade(of isAllowed: (UInt8) -> Bool, _ bytes: Bytes) -> Bool {
        var rest = bytes
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard let high = rest.popFirst(), let low = rest.popFirst(), isHexDigit(high), isHexDigit(low) else {
                    return false
                }
            } else if !isAllowed(byte) {
                return false
            }
        }
        return true
    }

    static func isScheme(_ bytes: Bytes) -> Bool {
        bytes.first.map(isLetter) == true
            && bytes.allSatisfy { isLetter($0) || isDigit($0) || "+-.".utf8.contains($0) }
    }

    /// A host, which may be empty, and perhaps a port, which may be too (RFC 9110, section 7.2).
    static func isHost(_ bytes: Bytes) -> Bool {
        guard bytes.first == UInt8(ascii: "[") else {
            let name = bytes.prefix { $0 != UInt8(ascii: ":") }
            return isMade(of: isNameByte, name) && isPort(bytes[name.endIndex...])
        }
        guard let end = bytes.firstIndex(of: UInt8(ascii: "]")) else { return false }
        return isLiteral(bytes[(bytes.startIndex + 1)..<end]) && isPort(bytes[(end + 1)...])
    }

    /// Nothing, or a colon and digits.
    private static func isPort(_ bytes: Bytes) -> Bool {
        bytes.isEmpty || bytes.first == UInt8(ascii: ":") && bytes.dropFirst().allSatisfy(isDigit)
    }

    /// Section 3.2.2: an IPv6 address, or one of a later version.
    private static func isLiteral(_ bytes: Bytes) -> Bool {
        if bytes.first.map({ $0 | 0x20 }) == UInt8(ascii: "v") {
            let version = bytes.dropFirst().prefix(while: isHexDigit)
            let address = bytes[version.endIndex...]
            return !version.isEmpty && address.first == UInt8(ascii: ".") && address.count > 1
                && address.dropFirst().allSatisfy { isNameByte($0) || $0 == UInt8(ascii: ":") }
        }
        guard bytes.allSatisfy({ isHexDigit($0) || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") }) else {
            return false
        }
        return (try? SocketAddress.ipv6(String(decoding: bytes, as: UTF8.self), port: 0)) != nil
    }
}
