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
