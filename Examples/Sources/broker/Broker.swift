import CallbackServer

/// What all clients share: who is there, and who hears what.
final class Broker {
    /// How long a subscriber may be full.
    let patience: Duration
    private var sessions: [[UInt8]: Session] = [:]
    private var topics = TopicTree()
    private var retainedSize = 0
    /// The subscribers of one message; kept for the memory.
    private var receivers: [Outbox] = []

    init(patience: Duration) {
        self.patience = patience
    }

    /// A second client of the same name takes the place of the first (MQTT-3.1.4-2).
    func enter(_ session: Session, as id: [UInt8]) {
        sessions.updateValue(session, forKey: id)?.connection.close()
    }

    /// The client is gone.
    func leave(_ session: Session, as id: [UInt8], _ filters: Set<Topic>) {
        for filter in filters { unsubscribe(session.outbox, from: filter) }
        if sessions[id] === session { sessions[id] = nil }
    }

    func subscribe(_ outbox: Outbox, to filter: Topic, _ granted: UInt8) {
        topics.update(filter) { $0.subscribers[ObjectIdentifier(outbox)] = (outbox, granted) }
        topics.forEachRetained(filter) { message in
            var publication = Publication(message, isRetained: true)
            outbox.send(&publication, granted: granted, from: outbox)
        }
    }

    func unsubscribe(_ outbox: Outbox, from filter: Topic) {
        topics.update(filter) { $0.subscribers[ObjectIdentifier(outbox)] = nil }
    }

    /// Once to each subscriber, however many of its filters match, with the highest quality of these (MQTT-3.3.5-1).
    func publish(_ message: Message, from publisher: Outbox?) throws(IOError) {
        if message.isRetained { try retain(message) }
        receivers.removeAll(keepingCapacity: true)
        topics.forEachSubscriber(message.topic) { outbox, granted in
            if outbox.granted == nil { receivers.append(outbox) }
            outbox.granted = max(outbox.granted ?? 0, granted)
        }
        var publication = Publication(message, isRetained: false)
        for receiver in receivers {
            receiver.send(&publication, granted: receiver.granted ?? 0, from: publisher)
            receiver.granted = nil
        }
    }

    /// The last message of a topic, for who subscribes later; one without a payload removes it (section 3.3.1.3).
    private func retain(_ message: Message) throws(IOError) {
        let kept = message.payload.isEmpty ? nil : message
        let size = retainedSize + (kept?.size ?? 0)
        guard size <= Limits.retained else { throw .refused("\(size) bytes of retained messages") }
        topics.update(message.topic) { node in
            retainedSize = size - (node.retained?.size ?? 0)
            node.retained = kept
        }
    }
}
