import CallbackServer
import ExampleSupport

/// One client, and what its packets ask for.
final class Session {
    let connection: Connection
    private unowned let broker: Broker
    private var isConnected = false
    private var id: [UInt8] = []
    /// What the others hear if the client goes without DISCONNECT.
    private var will: Message?
    private var filters: Set<Topic> = []
    let outbox: Outbox

    init(_ connection: Connection, _ broker: Broker) {
        self.connection = connection
        self.broker = broker
        outbox = Outbox(connection, patience: broker.patience)
        connection.onFrames(limit: Limits.packet) { [self] _, reader throws(IOError) in
            guard let header = reader.integer(UInt8.self), let length = try reader.varint(maxByteCount: 4) else {
                return .needMore
            }
            guard length <= Limits.packet - 5 else { throw .refused("a packet of \(length) bytes") }
            guard let body = reader.bytes(Int(length)) else { return .needMore }
            var packet = ByteReader(body)
            try take(header, &packet)
            return .frame
        }
        connection.onDrain = { [self] _ in outbox.becomeReady() }
        connection.onClose = { [self] _, reason in left(reason) }
    }

    /// Sections 3.1 to 3.14, by the packet's type and flags. Those of PUBLISH alone have a meaning.
    private func take(_ header: UInt8, _ reader: inout ByteReader) throws(IOError) {
        guard isConnected || header == 0x10 else { throw .refused("packet \(header) before CONNECT") }
        switch header {
        case 0x10: try connect(Connect(&reader))
        case 0x30...0x3F: try publish(header & 15, &reader)
        case 0x40:
            let id = try packetID(&reader)
            try end(&reader)
            try outbox.acknowledged(id)
        case 0x82: try subscribe(&reader)
        case 0xA2: try unsubscribe(&reader)
        case 0xC0:
            try end(&reader)
            connection.write([0xD0, 0])
        case 0xE0:
            try end(&reader)
            will = nil
            connection.finish(within: .farewell)
        default: throw .refused("packet \(header), which is none of a client's without QoS 2")
        }
    }

    private func connect(_ packet: Connect) throws(IOError) {
        guard !isConnected else { throw .refused("a second CONNECT") }
        // Nothing is kept for a client that is away, so one without a name could not find it again (MQTT-3.1.3-8).
        let refusal: UInt8 = packet.version != 4 ? 1 : packet.id.isEmpty && !packet.isClean ? 2 : 0
        connection.write([0x20, 2, 0, refusal])
        guard refusal == 0 else { return connection.finish(within: .farewell) }
        isConnected = true
        id = packet.id
        will = packet.will
        if !id.isEmpty { broker.enter(self, as: id) }
        // One and a half times what the client has promised, if anything (MQTT-3.1.2-24). No time while it is paused.
        let silence = Duration.milliseconds(1500 * Int(packet.keepAlive))
        connection.options.timeouts.read = packet.keepAlive > 0 ? silence : nil
    }

    private func publish(_ flags: UInt8, _ reader: inout ByteReader) throws(IOError) {
        let quality = flags >> 1 & 3
        // What has quality 0 is not sent twice (MQTT-3.3.1-2).
        guard quality < 2, quality > 0 || flags < 8 else { throw .refused("PUBLISH with flags \(flags)") }
        let topic = try topic(&reader, isFilter: false)
        let id = quality > 0 ? try packetID(&reader) : 0
        let payload = [UInt8](copying: reader.rest)
        reader.skip(reader.remaining)
        let message = Message(topic: topic, payload: payload, quality: quality, isRetained: flags & 1 > 0)
        try broker.publish(message, from: outbox)
        if quality > 0 { acknowledge(0x40, id) }
    }

    private func subscribe(_ reader: inout ByteReader) throws(IOError) {
        let id = try packetID(&reader)
        var accepted: [(filter: Topic, quality: UInt8)] = []
        var codes: [UInt8] = []
        repeat {
            let filter = try topic(&reader, isFilter: true)
            let quality = try need(reader.integer(UInt8.self))
            guard quality < 3 else { throw .refused("QoS \(quality)") }
            let hasRoom = filters.count < Limits.subscriptions || filters.contains(filter)
            codes.append(hasRoom ? min(quality, 1) : 0x80)
            guard hasRoom else { continue }
            filters.insert(filter)
            accepted.append((filter, min(quality, 1)))
        } while reader.remaining > 0
        acknowledge(0x90, id, codes)
        for (filter, quality) in accepted { broker.subscribe(outbox, to: filter, quality) }
    }

    private func unsubscribe(_ reader: inout ByteReader) throws(IOError) {
        let id = try packetID(&reader)
        repeat {
            let filter = try topic(&reader, isFilter: true)
            if filters.remove(filter) != nil { broker.unsubscribe(outbox, from: filter) }
        } while reader.remaining > 0
        acknowledge(0xB0, id)
    }

    private func acknowledge(_ header: UInt8, _ id: UInt16, _ codes: [UInt8] = []) {
        var writer = ByteWriter()
        writer.integer(header)
        writer.varint(UInt64(2 + codes.count))
        writer.integer(id)
        writer.bytes(codes)
        connection.write(writer.bytes)
    }

    private func left(_ reason: CloseReason) {
        if reason != .peerClosed, reason != .localClose {
            let cause = reason == .localReset ? "too slow" : "\(reason)"
            printLine("\(connection.remoteAddress) \"\(String(escaping: Array(id.prefix(64)).span))\": \(cause)")
        }
        outbox.becomeReady()
        broker.leave(self, as: id, filters)
        guard let will else { return }
        do throws(IOError) { try broker.publish(will, from: nil) } catch { printLine("\(error)") }
    }
}
