@_spi(Engine) package import CallbackModel

/// The watchers of signals of one loop.
@safe package final class SignalReceiver {
    private let relay: SignalRelay
    private var watchers: [RelayedSignal] = []
    /// Called when ``isReferenced`` may have changed.
    fileprivate let referenceChanged: () -> Void

    /// Throws ENOSPC if 64 loops watch signals already.
    package init(counter: Counter, referenceChanged: @escaping () -> Void = {}) throws(IOError) {
        relay = try SignalRelay(counter: counter)
        self.referenceChanged = referenceChanged
    }

    /// Whether a watcher keeps the loop running.
    package var isReferenced: Bool { watchers.contains { $0.isReferenced } }

    package func watch(_ number: Int32) throws(IOError) -> SignalDriver {
        try relay.add(number)
        let watcher = RelayedSignal(number: number, receiver: self)
        watchers.append(watcher)
        referenceChanged()
        return watcher
    }

    fileprivate func remove(_ watcher: RelayedSignal) {
        guard let index = watchers.firstIndex(where: { $0 === watcher }) else { return }
        watchers.remove(at: index)
        relay.remove(watcher.number)
        referenceChanged()
    }

    /// The loop calls this when the counter was raised.
    package func becameReady() {
        let arrived = relay.collectPending()
        guard arrived != 0 else { return }
        // The loop goes over a copy: a callback may add and remove watchers.
        for watcher in watchers where arrived & SignalRelay.bit(of: watcher.number) != 0 {
            watcher.received()
        }
    }

    package func close() {
        watchers.removeAll()
        relay.close()
    }
}

/// A watcher of one signal of one loop.
@safe private final class RelayedSignal: SignalDriver {
    let number: Int32
    private(set) var isReferenced = true
    private unowned var receiver: SignalReceiver?

    init(number: Int32, receiver: SignalReceiver) {
        self.number = number
        self.receiver = receiver
    }

    override func setReferenced(_ referenced: Bool) {
        isReferenced = referenced
        receiver?.referenceChanged()
    }

    override func close() {
        receiver?.remove(self)
        receiver = nil
    }
}
