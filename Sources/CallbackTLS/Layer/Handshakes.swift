internal import CallbackModel

/// The handshakes under way of one listener, and who is told of those that fail.
final class Handshakes {
    /// By number, in the order in which they began.
    private var layers: [UInt64: TLSLayer] = [:]
    private var next: UInt64 = 0
    /// No older one is under way.
    private var oldest: UInt64 = 0
    private let limit: Int
    var onFailed: ((Listener, TLS.HandshakeFailure) -> Void)?

    init(limit: Int) {
        self.limit = limit
    }

    var count: Int { layers.count }

    /// Makes the oldest give way if there are too many.
    func begin(_ layer: TLSLayer) {
        while layers.count >= limit {
            if let layer = layers.removeValue(forKey: oldest) { layer.giveWay() }
            oldest += 1
        }
        layer.handshakeNumber = next
        layers[next] = layer
        next += 1
    }

    func end(_ layer: TLSLayer) {
        guard let number = layer.handshakeNumber else { return }
        layer.handshakeNumber = nil
        layers[number] = nil
    }

    func tell(_ failure: TLS.HandshakeFailure, of connection: Connection) {
        guard let listener = connection.listener, let onFailed else { return }
        connection.perform(.handshake) { onFailed(listener, failure) }
    }
}
