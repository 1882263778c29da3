internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import Synchronization

/// One loop's end of the signals: a counter that the process's handler raises, and who watches.
@safe final class SignalReceiver {
    private unowned let loop: ReadinessLoop
    private var watchers: [ReadinessSignal] = []
    private var relay: SignalRelay?
    private var token: Token?

    init(loop: ReadinessLoop) {
        self.loop = loop
    }

    var isReferenced: Bool { watchers.contains { $0.isReferenced } }

    func watch(_ number: Int32) throws(IOError) -> SignalDriver {
        let relay = try openRelay()
        do throws(IOError) {
            try relay.add(number)
        } catch {
            closeIfUnused()
            throw error
        }
        let watcher = ReadinessSignal(number: number, receiver: self)
        watchers.append(watcher)
        return watcher
    }

    func remove(_ watcher: ReadinessSignal) {
        guard let index = watchers.firstIndex(where: { $0 === watcher }) else { return }
        watchers.remove(at: index)
        relay?.remove(watcher.number)
        closeIfUnused()
    }

    /// The descriptor is there only while something is watched: a loop that wants no signal pays for none.
    private func openRelay() throws(IOError) -> SignalRelay {
        if let relay { return relay }
        let relay = try SignalRelay(descriptorLimit: loop.descriptorLimit)
        let token = loop.enter(relay.descriptor, .signals)
        do throws(IOError) {
            try loop.poller.change(token, from: [], to: .readable)
        } catch {
            loop.leave(token)
            relay.close()
            throw error
        }
        self.relay = relay
        self.token = token
        return relay
    }

    private func closeIfUnused() {
        guard watchers.isEmpty, let relay, let token else { return }
        try? loop.poller.change(token, from: .readable, to: [])
        loop.leave(token)
        relay.close()
        self.relay = nil
        self.token = nil
    }

    func becameReady() {
        guard let relay else { return }
        let arrived = relay.takePending()
        // A copy: a callback may watch another signal, or none any more.
        for watcher in watchers where arrived & SignalRelay.bit(of: watcher.number) != 0 {
            watcher.watcher?.received()
        }
    }

    func close() {
        watchers.removeAll()
        closeIfUnused()
    }
}

/// A watcher of one signal of one loop.
@safe final class ReadinessSignal: SignalDriver {
    let number: Int32
    private(set) var isReferenced = true
    private weak var receiver: SignalReceiver?

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
