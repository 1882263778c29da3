import CallbackServer

/// The messages on their way to one subscriber.
///
/// Whoever publishes to a subscriber that is full waits, so no queue grows; and who is full for too long is dropped.
final class Outbox {
    private let connection: Connection
    private let limit: Duration
    /// The last identifier given to a message, and how many messages are not acknowledged: they are the latest ones.
    private var lastID: UInt16 = 0
    private var unacknowledged = 0
    /// Runs while the subscriber is full.
    private var patience: EventLoop.Timer?
    /// Who waits for this client, and for how many this one waits.
    private var waiting: [ObjectIdentifier: Outbox] = [:]
    private var obstacles = 0
    /// While the broker looks who gets a message: the highest quality of this client's filters so far.
    var granted: UInt8?

    init(_ connection: Connection, patience: Duration) {
        self.connection = connection
        limit = patience
    }

    /// Sends the message with the lower of its own quality and the granted one.
    func send(_ message: inout Publication, granted: UInt8, from publisher: Outbox?) {
        var id: UInt16?
        if min(message.quality, granted) > 0 {
            lastID = lastID == .max ? 1 : lastID + 1
            unacknowledged += 1
            id = lastID
        }
        let status = connection.write(message.bytes(id: id))
        guard status == .saturated || status == .flowing && unacknowledged >= Limits.unacknowledged else { return }
        if patience == nil {
            patience = connection.schedule(after: limit) { connection, _ in connection.reset() }
        }
        guard let publisher, waiting.updateValue(publisher, forKey: ObjectIdentifier(publisher)) == nil else { return }
        publisher.obstacles += 1
        publisher.connection.pause()
    }

    /// In the order of the messages (MQTT-4.6.0-2), so that it can only be the oldest.
    func acknowledged(_ id: UInt16) throws(IOError) {
        let oldest = (Int(lastID) - unacknowledged + Int(UInt16.max)) % Int(UInt16.max) + 1
        guard unacknowledged > 0, id == oldest else { throw .refused("PUBACK of packet \(id)") }
        unacknowledged -= 1
        // Not earlier, or it could hold up others for ever by acknowledging now and then.
        if unacknowledged <= Limits.unacknowledged / 2, connection.bufferedByteCount < Limits.queue { becomeReady() }
    }

    /// The subscriber is no longer full, or gone.
    func becomeReady() {
        patience?.cancel()
        patience = nil
        for publisher in waiting.values {
            publisher.obstacles -= 1
            if publisher.obstacles == 0 { publisher.connection.resume() }
        }
        waiting = [:]
    }
}
