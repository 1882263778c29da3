internal import Glibc

// What one does with the bytes that a callback lends: find, compare, copy. The documentation page "Bytes" shows each.

extension Span<UInt8> {
    /// The first place of `byte`, counted from 0; `nil` if it is nowhere (memchr(3)).
    public func firstIndex(of byte: UInt8) -> Int? {
        unsafe withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress, let found = unsafe memchr(start, Int32(byte), bytes.count) else {
                return nil
            }
            return unsafe UnsafeRawPointer(found) - start
        }
    }

    /// Whether both have the same bytes in the same order.
    public func elementsEqual(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        return unsafe withUnsafeBytes { mine in
            unsafe other.withUnsafeBytes { theirs in
                guard let one = mine.baseAddress, let two = theirs.baseAddress else { return true }
                return unsafe memcmp(one, two, mine.count) == 0
            }
        }
    }

    /// Whether these are the UTF-8 bytes of `text`, and no others: `line.elementsEqual("QUIT")`.
    public func elementsEqual(_ text: StaticString) -> Bool {
        guard text.hasPointerRepresentation, count == text.utf8CodeUnitCount else {
            return !text.hasPointerRepresentation && String(validating: self) == String(text.unicodeScalar)
        }
        return unsafe withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return true }
            return unsafe memcmp(start, text.utf8Start, bytes.count) == 0
        }
    }
}

extension [UInt8] {
    /// A copy of `bytes`, to keep beyond the callback that lent them.
    public init(copying bytes: Span<UInt8>) {
        self = []
        append(copying: bytes)
    }

    /// Adds a copy of `bytes`.
    public mutating func append(copying bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }
}

extension String {
    /// The text that `bytes` are in UTF-8; `nil` if they are no valid UTF-8.
    public init?(validating bytes: Span<UInt8>) {
        guard let text = try? UTF8Span(validating: bytes) else { return nil }
        self.init(copying: text)
    }
}
