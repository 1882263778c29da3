import CallbackServer
import Glibc

/// What is published. Its quality is 0, at most once, or 1, at least once (section 4.3).
struct Message {
    let topic: Topic
    let payload: [UInt8]
    let quality: UInt8
    let isRetained: Bool

    var size: Int { topic.bytes.count + payload.count + Limits.costOfRetained }
}

/// What a client says of itself (section 3.1).
struct Connect {
    let version: UInt8
    private(set) var isClean = false
    private(set) var keepAlive: UInt16 = 0
    private(set) var id: [UInt8] = []
    private(set) var will: Message?

    init(_ reader: inout ByteReader) throws(IOError) {
        let name = try text(&reader)
        guard name.elementsEqual("MQTT".utf8) else { throw .refused("protocol \(String(escaping: name.span))") }
        version = try need(reader.integer(UInt8.self))
        // What others say next may be anything.
        guard version == 4 else {
            reader.skip(reader.remaining)
            return
        }
        let flags = try need(reader.integer(UInt8.self))
        // Will, and its quality and retain flag; user name and password (sections 3.1.2.3 to 3.1.2.9).
        let (hasWill, quality, hasUser, hasPassword) = (flags & 4 > 0, flags >> 3 & 3, flags >= 128, flags & 64 > 0)
        guard flags & 1 == 0, quality < 3, hasWill || flags & 0x38 == 0, hasUser || !hasPassword else {
            throw .refused("connect flags \(flags)")
        }
        isClean = flags & 2 > 0
        keepAlive = try need(reader.integer(UInt16.self))
        id = try text(&reader)
        if hasWill {
            will = Message(
                topic: try topic(&reader, isFilter: false), payload: try bytes(&reader), quality: min(quality, 1),
                isRetained: flags & 32 > 0)
        }
        // Anybody may come in.
        if hasUser { _ = try text(&reader) }
        if hasPassword { _ = try bytes(&reader) }
        try end(&reader)
    }
}

/// A message as subscribers get it, made once for all of them (section 3.3).
struct Publication {
    private let message: Message
    private let isRetained: Bool
    private lazy var withoutID = packet(quality: 0)
    private lazy var withID = packet(quality: 1)

    init(_ message: Message, isRetained: Bool) {
        self.message = message
        self.isRetained = isRetained
    }

    var quality: UInt8 { message.quality }

    /// The packet of quality 0, or the one of quality 1 with this identifier.
    mutating func bytes(id: UInt16?) -> [UInt8] {
        guard let id else { return withoutID }
        let place = withID.count - message.payload.count
        withID[place - 2] = UInt8(id >> 8)
        withID[place - 1] = UInt8(id & 0xFF)
        return withID
    }

    private func packet(quality: UInt8) -> [UInt8] {
        let topic = message.topic.bytes
        var writer = ByteWriter(capacity: topic.count + message.payload.count + 9)
        writer.integer(0x30 | quality << 1 | (isRetained ? 1 : 0))
        writer.varint(UInt64(2 + topic.count + 2 * Int(quality) + message.payload.count))
        writer.integer(UInt16(topic.count))
        writer.bytes(topic)
        if quality > 0 { writer.integer(UInt16(0)) }
        writer.bytes(message.payload)
        return writer.bytes
    }
}

// MARK: Parts of packets

extension IOError {
    /// What is no MQTT, or more than this broker takes.
    static func refused(_ detail: String) -> IOError { IOError(call: "mqtt", errno: EBADMSG, detail: detail) }
}

func need<Value>(_ value: Value?) throws(IOError) -> Value {
    guard let value else { throw .refused("the packet ends too soon") }
    return value
}

func end(_ reader: inout ByteReader) throws(IOError) {
    guard reader.remaining == 0 else { throw .refused("\(reader.remaining) bytes behind the end") }
}

func packetID(_ reader: inout ByteReader) throws(IOError) -> UInt16 {
    let id = try need(reader.integer(UInt16.self))
    guard id > 0 else { throw .refused("packet identifier 0") }
    return id
}

func bytes(_ reader: inout ByteReader) throws(IOError) -> [UInt8] {
    let count = try need(reader.integer(UInt16.self))
    guard let bytes = reader.bytes(Int(count)) else { throw .refused("\(count) bytes that are not there") }
    return [UInt8](copying: bytes)
}

/// Section 1.5.3: UTF-8 without U+0000.
func text(_ reader: inout ByteReader) throws(IOError) -> [UInt8] {
    let bytes = try bytes(&reader)
    guard (try? UTF8Span(validating: bytes.span)) != nil, !bytes.contains(0) else { throw .refused("no UTF-8") }
    return bytes
}

func topic(_ reader: inout ByteReader, isFilter: Bool) throws(IOError) -> Topic {
    let text = try text(&reader)
    guard let topic = Topic(text, isFilter: isFilter) else {
        throw .refused("topic \(String(escaping: text.span, limit: 64))")
    }
    return topic
}
