@_spi(Engine) internal import CallbackModel

/// One loop's end of the signals: who watches which.
@safe final class SignalReceiver {
    private let relay: SignalRelay
    private var watchers: [ReadinessSignal] = []

    /// Throws ENOSPC when too many loops watch signals already.
    init(counter: Counter) throws(IOError) {
        relay = try SignalRelay(counter: counter)
    }

    var isReferenced: Bool { watchers.contains { $0.isReferenced } }

    func watch(_ number: Int32) throws(IOError) -> SignalDriver {
        try relay.add(number)
        let watcher = ReadinessSignal(number: number, receiver: self)
        watchers.append(watcher)
        return watcher
    }

    func remove(_ watcher: ReadinessSignal) {
        guard let index = watchers.firstIndex(where: { $0 === watcher }) else { return }
        watchers.remove(at: index)
        relay.remove(watcher.number)
    }

    /// The loop calls this when the counter was raised.
    func becameReady() {
        let arrived = relay.takePending()
        guard arrived != 0 else { return }
        // A copy: a callback may watch another signal, or none any more.
        for watcher in watchers where arrived & SignalRelay.bit(of: watcher.number) != 0 {
            watcher.watcher?.received()
        }
    }

    func close() {
        watchers.removeAll()
        relay.close()
    }
}

/// A watcher of one signal of one loop.
@safe final class ReadinessSignal: SignalDriver {
    let number: Int32
    private(set) var isReferenced = true
    private unowned var receiver: SignalReceiver?

    init(number: Int32, receiver: SignalReceiver) {
        self.number = number
        self.receiver = receiver
    }

    override func setReferenced(_ referenced: Bool) {
        isReferenced = referenced
    }

    override func close() {
        receiver?.remove(self)
        receiver = nil
    }
}
