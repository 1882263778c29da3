import Glibc
import Testing

@_spi(Engine) @testable import CallbackModel

@Suite struct `A connection at rest` {
    /// A word more would make it 232 (Vendor-notes/swift.md 11). There are 15,000 at rest in the benchmark.
    @Test func `costs a block of at most 216 bytes`() throws {
        let driver = ScriptedLoop()
        let loop = EventLoop(driver: driver)
        let (connection, _) = driver.connect()
        // By its name, since Swift's Glibc does not have malloc.h.
        let symbol = try #require(dlsym(nil, "malloc_usable_size"))
        let usableSize = unsafeBitCast(symbol, to: (@convention(c) (UnsafeMutableRawPointer) -> Int).self)
        let size = usableSize(Unmanaged.passUnretained(connection).toOpaque())
        #expect(size > 0 && size <= 216, "\(size) bytes")
        withExtendedLifetime((loop, connection)) {}
    }
}
