import Testing

@_spi(Engine) @testable import CallbackModel

@Suite struct `Letting go of a loop` {
    /// An engine tells what has closed while it gives its memory back: libuv's, from each handle's close callback.
    @Test func `asks nothing of an engine that shuts down`() {
        let driver = ScriptedLoop()
        var loop: EventLoop? = EventLoop(driver: driver)
        #expect(loop != nil)
        let (connection, stream) = driver.connect()
        loop = nil
        #expect(stream.descriptor == -1)
        #expect(connection.write("x") == .closed)
        #expect(!driver.isAskedTooLate)
    }
}

/// What a callback has captured may come back to the connection as it goes.
@Suite struct `Letting go of callbacks` {
    private let driver = ScriptedLoop()
    private let loop: EventLoop

    init() { loop = EventLoop(driver: driver) }

    /// Sets every callback when it is let go of.
    private final class Meddler {
        private unowned let connection: Connection
        private let gone: () -> Void
        /// Called by what it leaves behind.
        private let called: () -> Void

        init(_ connection: Connection, _ gone: @escaping () -> Void, called: @escaping () -> Void = {}) {
            self.connection = connection
            self.gone = gone
            self.called = called
        }

        deinit {
            connection.onData = { _, _ in }
            connection.onOpen = { _ in }
            connection.onEnd = { _ in }
            connection.onDrain = { _ in }
            connection.onTimeout = { _, _ in .keep }
            connection.onClose = { [called] _, _ in called() }
            connection.write("gone") { [called] _ in called() }
            gone()
        }
    }

    private static let setters: [@Sendable (Connection, AnyObject?) -> Void] = [
        { connection, object in connection.onData = { _, _ in withExtendedLifetime(object) {} } },
        { connection, object in connection.onOpen = { _ in withExtendedLifetime(object) {} } },
        { connection, object in connection.onEnd = { _ in withExtendedLifetime(object) {} } },
        { connection, object in connection.onDrain = { _ in withExtendedLifetime(object) {} } },
        { connection, object in connection.onTimeout = { _, _ in withExtendedLifetime(object) { .keep } } },
        { connection, object in connection.onClose = { _, _ in withExtendedLifetime(object) {} } },
    ]

    private enum Moment: CaseIterable { case outside, inOnData, atClose }

    @Test(arguments: 0..<6, Moment.allCases)
    private func `that set others as they go`(callback: Int, moment: Moment) {
        let set = Self.setters[callback]
        let (connection, stream) = driver.connect()
        var gone = 0
        switch moment {
        case .outside:
            set(connection, Meddler(connection) { gone += 1 })
            set(connection, nil)
            #expect(gone == 1)
        case .inOnData where callback == 0:
            connection.onData = { [meddler = Meddler(connection) { gone += 10 }] connection, _ in
                withExtendedLifetime(meddler) {}
                // What is set first waits, and is let go of by the second.
                set(connection, Meddler(connection) { gone += 1 })
                set(connection, nil)
                #expect(gone == 1)
            }
            stream.received([1, 2, 3].span)
            #expect(gone == 11)
        case .inOnData:
            set(connection, Meddler(connection) { gone += 1 })
            connection.onData = { connection, _ in
                set(connection, nil)
                #expect(gone == 1)
            }
            stream.received([1, 2, 3].span)
        case .atClose:
            set(connection, Meddler(connection) { gone += 1 })
        }
        connection.reset()
        driver.turn()
        #expect(gone == (callback == 0 && moment == .inOnData ? 11 : 1))
        #expect(connection.onData == nil && connection.onOpen == nil && connection.onEnd == nil)
        #expect(connection.onDrain == nil && connection.onTimeout == nil && connection.onClose == nil)
    }

    /// Callbacks run only inside `run`, also those that are set while the loop goes.
    @Test(arguments: 0..<6)
    func `that set others while the loop goes, which are not called`(callback: Int) {
        let driver = ScriptedLoop()
        var loop: EventLoop? = EventLoop(driver: driver)
        #expect(loop != nil)
        let (connection, _) = driver.connect()
        var (gone, called) = (0, 0)
        Self.setters[callback](
            connection,
            Meddler(connection) {
                gone += 1
            } called: {
                called += 1
            })
        loop = nil
        #expect(gone == 1 && called == 0)
        #expect(connection.onClose == nil && connection.write("x") == .closed)
    }
}
