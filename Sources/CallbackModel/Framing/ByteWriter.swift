/// Builds a message: integers, bytes and text behind each other, and lengths before what they count.
///
/// Integers are big-endian, the order of most protocols (RFC 1700, "Data Notations"), unless asked otherwise.
///
/// ```swift
/// var writer = ByteWriter()
/// writer.integer(UInt8(0x30))
/// try writer.lengthPrefixed(as: .uint16) { $0.string("topic") }
/// connection.write(writer.bytes)
/// ```
public struct ByteWriter: Sendable {
    /// What has been written.
    public private(set) var bytes: [UInt8] = []

    /// Nothing is written yet; there is room for `capacity` bytes.
    public init(capacity: Int = 0) {
        bytes.reserveCapacity(max(0, capacity))
    }

    /// How many bytes have been written.
    public var count: Int { bytes.count }

    /// Forgets what has been written and keeps the memory.
    public mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
    }

    /// Adds `value`, big-endian.
    @inlinable public mutating func integer<Integer: FixedWidthInteger>(_ value: Integer) {
        store(value.bigEndian)
    }

    /// Adds `value`, little-endian.
    @inlinable public mutating func integer<Integer: FixedWidthInteger>(littleEndian value: Integer) {
        store(value.littleEndian)
    }

    @inlinable mutating func store<Integer: FixedWidthInteger>(_ value: Integer) {
        unsafe withUnsafeBytes(of: value) { unsafe add($0) }
    }

    @usableFromInline mutating func add(_ digits: UnsafeRawBufferPointer) {
        unsafe bytes.append(contentsOf: digits)
    }

    /// Adds `value` with a variable length, seven bits a byte and the lowest first (MQTT, Protocol Buffers).
    public mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    /// Adds a copy of `piece`.
    public mutating func bytes(_ piece: Span<UInt8>) {
        bytes.append(copying: piece)
    }

    /// Adds `piece`.
    public mutating func bytes(_ piece: some Collection<UInt8>) {
        bytes.append(contentsOf: piece)
    }

    /// Adds the UTF-8 bytes of `text`.
    public mutating func string(_ text: some StringProtocol) {
        bytes.append(contentsOf: text.utf8)
    }

    /// Adds what `body` writes, with its length before it.
    ///
    /// - Throws: EMSGSIZE when the prefix cannot hold the length; what was written before is then as it was. Also what
    ///   `body` throws, likewise.
    public mutating func lengthPrefixed(
        as prefix: LengthPrefix, _ body: (inout ByteWriter) throws(IOError) -> Void
    ) throws(IOError) {
        let start = bytes.count
        if case .fixed(let size, _) = prefix.form { bytes.append(contentsOf: repeatElement(0, count: size)) }
        let bodyStart = bytes.count
        do {
            try body(&self)
            try setLength(of: prefix, at: start, UInt64(bytes.count - bodyStart))
        } catch {
            bytes.removeSubrange(start...)
            throw error
        }
    }

    private mutating func setLength(of prefix: LengthPrefix, at start: Int, _ length: UInt64) throws(IOError) {
        var writer = ByteWriter()
        switch prefix.form {
        case .fixed(let size, let isLittleEndian):
            let count = prefix.countsItself ? length + UInt64(size) : length
            guard size == 8 || count < 1 << UInt64(8 * size) else { throw Self.tooLong(length) }
            if isLittleEndian { writer.integer(littleEndian: count) } else { writer.integer(count) }
            let digits = isLittleEndian ? writer.bytes.prefix(size) : writer.bytes.suffix(size)
            bytes.replaceSubrange(start..<start + size, with: digits)
        case .varint(let maxByteCount):
            writer.varint(length)
            // A prefix that counts itself may grow by that.
            if prefix.countsItself {
                let first = writer.count
                writer.removeAll()
                writer.varint(length + UInt64(first))
                if writer.count > first {
                    writer.removeAll()
                    writer.varint(length + UInt64(first + 1))
                }
            }
            guard writer.count <= maxByteCount else { throw Self.tooLong(length) }
            bytes.insert(contentsOf: writer.bytes, at: start)
        }
    }

    private static func tooLong(_ length: UInt64) -> IOError {
        .invalid("length prefix", "\(length) bytes", errno: IOError.messageTooLong)
    }
}
