import Testing

@_spi(Engine) @testable import CallbackModel

/// Two loops of a group that accept from one socket, with one place for both.
@Suite struct `Places of a group` {
    private let loops = (0..<2).map { _ in ScriptedLoop() }
    private let eventLoops: [EventLoop]
    private let listeners: [Listener]
    private let places = Places(limit: 1, loops: 2) {}

    init() throws {
        var options = Listener.Options()
        options.maxConnections = 1
        options.beyondMaxConnections = .refuse
        let places = places
        let eventLoops = loops.map { EventLoop(driver: $0) }
        self.eventLoops = eventLoops
        listeners = try (0..<2).map { index in
            let core = eventLoops[index].core
            let part = GroupPart(places: places, index: index) { _ in }
            return try Listener(core: core, options: options, part: part, onConnection: { _ in }) {
                () throws(IOError) in HandedListener(core: core, address: .unnamed)
            }
        }
    }

    /// The client may be gone, and then the place is free: this one waits until that is known.
    @Test func `a client is not refused for a place that another loop only has in hand`() {
        #expect(listeners[0].admission == .accept)
        #expect(listeners[1].admission == .stop)
        // No client came for it.
        listeners[0].wakeUpEnded()
        #expect(listeners[1].admission == .accept)
    }

    @Test func `a client is refused when another loop has a connection in the place`() {
        #expect(listeners[0].admission == .accept)
        listeners[0].accepted(ScriptedStream(loops[0]), remoteAddress: .unnamed)
        listeners[0].wakeUpEnded()
        #expect(listeners[1].admission == .refuse)
    }
}
