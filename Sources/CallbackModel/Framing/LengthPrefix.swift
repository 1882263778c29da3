/// How the length of a message stands before it.
///
/// ```swift
/// .uint32                     // four bytes, big-endian
/// .uint16.littleEndian
/// .uint32.countingItself      // the count has the prefix in it, as in PostgreSQL's protocol
/// .varint(maxByteCount: 4)    // as in MQTT
/// ```
public struct LengthPrefix: Hashable, Sendable {
    enum Form: Hashable, Sendable {
        case fixed(bytes: Int, isLittleEndian: Bool)
        case varint(maxByteCount: Int)
    }

    var form: Form
    /// Whether the count has the bytes of the prefix in it.
    var countsItself = false

    /// One byte.
    public static let uint8 = LengthPrefix(form: .fixed(bytes: 1, isLittleEndian: false))
    /// Two bytes, big-endian.
    public static let uint16 = LengthPrefix(form: .fixed(bytes: 2, isLittleEndian: false))
    /// Four bytes, big-endian.
    public static let uint32 = LengthPrefix(form: .fixed(bytes: 4, isLittleEndian: false))
    /// Eight bytes, big-endian.
    public static let uint64 = LengthPrefix(form: .fixed(bytes: 8, isLittleEndian: false))

    /// Seven bits a byte and the lowest first, in at most `maxByteCount` bytes, 1 to 10.
    public static func varint(maxByteCount: Int = 10) -> LengthPrefix {
        LengthPrefix(form: .varint(maxByteCount: min(max(maxByteCount, 1), 10)))
    }

    /// The same, little-endian. A varint is so already.
    public var littleEndian: LengthPrefix {
        guard case .fixed(let bytes, _) = form else { return self }
        return LengthPrefix(form: .fixed(bytes: bytes, isLittleEndian: true), countsItself: countsItself)
    }

    /// The same, with the bytes of the prefix in the count.
    public var countingItself: LengthPrefix {
        LengthPrefix(form: form, countsItself: true)
    }
}

extension LengthPrefix {
    static func tooLong(_ count: UInt64, _ limit: Int) -> IOError {
        .invalid("length prefix", "\(count), limit \(limit)", errno: IOError.messageTooLong)
    }

    /// The length of the message behind the prefix, which is read. `nil` while the prefix is not whole.
    ///
    /// - Throws: EMSGSIZE when the message is longer than `limit` bytes, EBADMSG when the count is less than the prefix
    ///   that it counts, EOVERFLOW when a varint does not end in time.
    func length(from reader: inout ByteReader, limit: Int) throws(IOError) -> Int? {
        let start = reader.position
        guard let count = try count(from: &reader) else { return nil }
        let prefix = countsItself ? UInt64(reader.position - start) : 0
        guard count >= prefix else { throw .invalid("length prefix", "\(count)", errno: IOError.badMessage) }
        guard count - prefix <= UInt64(limit) else { throw Self.tooLong(count, limit) }
        return Int(count - prefix)
    }

    private func count(from reader: inout ByteReader) throws(IOError) -> UInt64? {
        switch form {
        case .fixed(bytes: 1, _): reader.integer(UInt8.self).map { UInt64($0) }
        case .fixed(bytes: 2, false): reader.integer(UInt16.self).map { UInt64($0) }
        case .fixed(bytes: 2, true): reader.integer(littleEndian: UInt16.self).map { UInt64($0) }
        case .fixed(bytes: 4, false): reader.integer(UInt32.self).map { UInt64($0) }
        case .fixed(bytes: 4, true): reader.integer(littleEndian: UInt32.self).map { UInt64($0) }
        case .fixed(_, false): reader.integer(UInt64.self)
        case .fixed(_, true): reader.integer(littleEndian: UInt64.self)
        case .varint(let maxByteCount): try reader.varint(maxByteCount: maxByteCount)
        }
    }
}
