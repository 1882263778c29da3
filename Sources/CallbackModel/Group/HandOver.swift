internal import CLinux
internal import Glibc
internal import Synchronization

/// A socket on its way from one loop to another. Whoever holds it last without taking it closes it.
final class PassedSocket: Sendable {
    private let descriptor: Atomic<Int32>
    /// A client is reset: nothing was sent to it, and FIN would say that this is all.
    private let isClient: Bool

    init(_ descriptor: Int32, isClient: Bool) {
        self.descriptor = Atomic(descriptor)
        self.isClient = isClient
    }

    /// The descriptor, which the caller owns from now on; -1 for a second caller.
    func take() -> Int32 { descriptor.exchange(-1, ordering: .acquiringAndReleasing) }

    deinit { close() }

    /// Closes it, unless it has been taken.
    func close() {
        let descriptor = take()
        guard descriptor >= 0 else { return }
        if isClient { linux_reset(descriptor) } else { Glibc.close(descriptor) }
    }
}

/// A client that the first loop of a group has accepted and another one is to serve.
///
/// If that loop ends first, it lets go of this without a call, and the client goes back to the first loop.
final class HandOver: Sendable {
    let client: PassedSocket
    let peer: SocketAddress
    /// The loop that is to serve it.
    private let index: Int
    private let isServed = Atomic(false)
    private let goBack: @Sendable (PassedSocket, SocketAddress, Int) -> Void

    init(
        _ client: PassedSocket, _ peer: SocketAddress, to index: Int,
        goBack: @escaping @Sendable (PassedSocket, SocketAddress, Int) -> Void
    ) {
        self.client = client
        self.peer = peer
        self.index = index
        self.goBack = goBack
    }

    deinit {
        if !isServed.load(ordering: .relaxed) { goBack(client, peer, index) }
    }

    /// The loop serves it.
    func serve() -> Int32 {
        isServed.store(true, ordering: .relaxed)
        return client.take()
    }
}

/// What a listener of a group has on a loop that is handed its clients: no socket of its own.
final class HandedListener: ListenerDriver {
    private let core: LoopCore
    private let address: SocketAddress

    init(core: LoopCore, address: SocketAddress) {
        self.core = core
        self.address = address
    }

    override var descriptor: Int32 { -1 }
    override var localAddress: SocketAddress { address }
    override func resume() {}
    override func pause() {}
    override var hasWaitingClients: Bool { false }

    override func close() { core.putOff(.closedListener(self)) }
}

extension Listener {
    /// What `ListenerDriver.handOver` does.
    func handOver(_ client: Int32, _ peer: SocketAddress) -> Bool {
        guard let part, let handOver = part.handOver else { return false }
        _ = part.spendPlace()
        backOff = Self.shortestBackOff
        drain?.lastClients -= 1
        core.noteEvent()
        handOver(client, peer)
        return true
    }

    /// Serves a client that the group's first loop has accepted. Returns false if this listener serves no more.
    func receive(_ handOver: HandOver) -> Bool {
        guard isOpen, !core.isStopping else { return false }
        do throws(IOError) {
            let stream = try core.driver.takeAccepted(
                handOver.serve(), isUnix: localAddress.family == .unix, options: options.connection)
            begin(stream, remoteAddress: handOver.peer)
        } catch {
            part?.connectionClosed()
            shed(1, .engineLimit)
        }
        return true
    }
}
