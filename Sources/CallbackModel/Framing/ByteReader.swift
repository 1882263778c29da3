/// Reads integers, bytes and text from the front of bytes that somebody else has lent.
///
/// Each call returns `nil` when fewer bytes are left than it needs, and then has moved nothing. Integers are
/// big-endian, the order of most protocols (RFC 1700, "Data Notations"), unless asked otherwise. What it lends lives as
/// long as the bytes it was made of.
///
/// ```swift
/// var reader = ByteReader(bytes)
/// guard let kind = reader.integer(UInt8.self), let length = reader.integer(UInt16.self),
///     let body = reader.bytes(Int(length))
/// else { return }
/// ```
public struct ByteReader: ~Escapable {
    @usableFromInline let bytes: Span<UInt8>

    /// How many bytes have been read.
    @inlinable public var position: Int { offset }
    @usableFromInline var offset = 0

    /// Reads `bytes` from their first.
    @_lifetime(copy bytes)
    @inlinable public init(_ bytes: Span<UInt8>) {
        self.bytes = bytes
    }

    /// How many bytes are left.
    @inlinable public var remaining: Int { bytes.count - offset }

    /// The bytes that are left. They are not read by this.
    @inlinable public var rest: Span<UInt8> {
        @_lifetime(copy self)
        get { bytes.extracting(droppingFirst: offset) }
    }

    /// The next integer, big-endian.
    @_lifetime(self: copy self)
    @inlinable public mutating func integer<Integer: FixedWidthInteger>(_ type: Integer.Type) -> Integer? {
        load(type).map { Integer(bigEndian: $0) }
    }

    /// The next integer, little-endian.
    @_lifetime(self: copy self)
    @inlinable public mutating func integer<Integer: FixedWidthInteger>(littleEndian type: Integer.Type) -> Integer? {
        load(type).map { Integer(littleEndian: $0) }
    }

    @_lifetime(self: copy self)
    @inlinable mutating func load<Integer: FixedWidthInteger>(_ type: Integer.Type) -> Integer? {
        let size = MemoryLayout<Integer>.size
        guard remaining >= size else { return nil }
        let start = offset
        offset += size
        return unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: start, as: type) }
    }

    /// The next integer of variable length, seven bits a byte and the lowest first (MQTT, Protocol Buffers).
    ///
    /// - Parameter maxByteCount: How many bytes it may have, 1 to 10: 4 in MQTT.
    /// - Throws: EOVERFLOW when it goes on behind `maxByteCount` bytes, or is more than 64 bits hold. Nothing is moved.
    @_lifetime(self: copy self)
    @inlinable public mutating func varint(maxByteCount: Int = 10) throws(IOError) -> UInt64? {
        var value: UInt64 = 0
        for index in 0..<maxByteCount {
            guard index < remaining else { return nil }
            let byte = bytes[offset + index]
            let bits = UInt64(byte & 0x7F)
            guard index < 9 || bits <= 1 else { break }
            value |= bits << UInt64(7 * index)
            if byte < 0x80 {
                offset += index + 1
                return value
            }
        }
        throw .varintOverflow(maxByteCount)
    }

    /// The next `count` bytes, lent. Also `nil` when `count` is negative.
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    @inlinable public mutating func bytes(_ count: Int) -> Span<UInt8>? {
        guard count >= 0, count <= remaining else { return nil }
        let start = offset
        offset += count
        return bytes.extracting(start..<offset)
    }

    /// The text of the next `count` bytes. Also `nil` when they are no valid UTF-8.
    @_lifetime(self: copy self)
    @inlinable public mutating func string(_ count: Int) -> String? {
        guard count >= 0, count <= remaining,
            let text = String(validating: bytes.extracting(offset..<offset + count))
        else { return nil }
        offset += count
        return text
    }

    /// Leaves out the next `count` bytes; `false` when fewer are left, or when `count` is negative.
    @discardableResult
    @_lifetime(self: copy self)
    @inlinable public mutating func skip(_ count: Int) -> Bool {
        guard count >= 0, count <= remaining else { return false }
        offset += count
        return true
    }
}

extension IOError {
    @usableFromInline static func varintOverflow(_ maxByteCount: Int) -> IOError {
        .invalid("varint", "more than \(maxByteCount) bytes or 64 bits", errno: IOError.overflow)
    }
}
