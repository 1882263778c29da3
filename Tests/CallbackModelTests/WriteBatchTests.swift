import Glibc
import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel

@Suite struct `Batches of small writes` {
    private let driver = ScriptedLoop()
    private let loop: EventLoop

    init() { loop = EventLoop(driver: driver) }

    /// Contract clause 7: at most two calls.
    @Test(arguments: [1, 16, 64, 65, 100])
    func `1,000 writes of one callback are one system call, or two if they do not fit the buffer`(size: Int) {
        let (connection, stream) = driver.connect()
        loop.core.perform(.timer) {
            for _ in 0..<1_000 { connection.write([UInt8](repeating: 1, count: size)) }
            #expect(stream.sent.count == (1_000 * size > WriteBatch.capacity ? 1 : 0))
        }
        #expect(stream.sent.count == (1_000 * size > WriteBatch.capacity ? 2 : 1))
        #expect(stream.sent.reduce(0) { $0 + $1.count } == 1_000 * size)
        connection.reset()
        driver.turn()
    }

    @Test func `an empty write changes nothing`() {
        let (connection, stream) = driver.connect()
        loop.core.perform(.timer) {
            for _ in 0..<10 {
                connection.write("a")
                #expect(connection.write("") == .flowing)
                #expect(connection.write([[], [0x62], []]) == .flowing)
            }
            #expect(stream.sent.isEmpty)
        }
        #expect(stream.sent.map(\.count) == [20])
        connection.reset()
        #expect(connection.write("") == .closed)
        driver.turn()
    }

    @Test func `outside of callbacks each write is a call of its own`() {
        let (connection, stream) = driver.connect()
        connection.write("a")
        connection.write("b")
        #expect(stream.sent == [[0x61], [0x62]])
        connection.reset()
        driver.turn()
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `the bytes of each connection stay in order, however the writes interleave`(seed: UInt64) {
        let choices = pseudoRandomBytes(count: 4_000, seed: seed)
        let bytes = pseudoRandomBytes(count: 200_000, seed: seed + 1_000)
        let sizes = [0, 1, 7, 100, 1_000, 5_000, 16_384, 16_385, 40_000]
        let peers = (0..<4).map { _ in driver.connect() }
        var written = [[UInt8]](repeating: [], count: peers.count)
        var next = choices.makeIterator()
        while let calls = next.next() {
            loop.core.perform(.timer) {
                for _ in 0..<calls % 40 {
                    guard let which = next.next(), let size = next.next() else { return }
                    let index = Int(which) % peers.count
                    let start = written[index].count % 150_000
                    let piece = Array(bytes[start..<start + sizes[Int(size) % sizes.count]])
                    peers[index].0.write(piece)
                    written[index] += piece
                    #expect(
                        peers[index].0.bytesWritten + UInt64(peers[index].0.bufferedByteCount) == written[index].count)
                }
            }
            for (index, peer) in peers.enumerated() { #expect(peer.0.bytesWritten == written[index].count) }
        }
        for (index, peer) in peers.enumerated() {
            let sent = peer.1.sent.reduce(into: []) { $0 += $1 }
            // `==` would take seconds in a debug build.
            #expect(sent.count == written[index].count && memcmp(sent, written[index], sent.count) == 0)
            peer.0.reset()
        }
        driver.turn()
    }

    /// Pieces of it are not copied, so each must be sent before the engine reads over it.
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `what was received can be passed on whole or in parts, to anyone, among other bytes`(seed: UInt64) {
        var choices = pseudoRandomBytes(count: 12_000, seed: seed).makeIterator()
        let peers = (0..<3).map { _ in driver.connect() }
        var written = [[UInt8]](repeating: [], count: peers.count)
        var sources: [Int] = []
        func next() -> Int? { choices.next().map(Int.init) }
        for (connection, _) in peers {
            connection.onData = { _, bytes in
                var position = 0
                for _ in 0..<(next() ?? 0) % 12 {
                    guard let source = next(), let which = next(), let size = next() else { return }
                    let index = which % peers.count
                    sources.append(source % 4)
                    switch source % 4 {
                    // Behind the last piece, as a server of lines does.
                    case 0, 1:
                        let end = min(bytes.count, position + (source == 1 ? 0 : size))
                        let piece = bytes.extracting(position..<end)
                        peers[index].0.write(piece)
                        written[index] += (0..<piece.count).map { piece[$0] }
                        position = end
                    case 2:
                        peers[index].0.write(bytes)
                        written[index] += (0..<bytes.count).map { bytes[$0] }
                        position = 0
                    default:
                        let own = [UInt8](repeating: UInt8(size), count: size * 80)
                        peers[index].0.write(own)
                        written[index] += own
                    }
                    let (peer, _) = peers[index]
                    #expect(peer.bytesWritten + UInt64(peer.bufferedByteCount) == written[index].count)
                }
            }
        }
        var buffer = [UInt8](repeating: 0, count: 4_000)
        while let which = next(), let size = next() {
            buffer = pseudoRandomBytes(count: 1 + size * 15, seed: UInt64(which + size))
            peers[which % peers.count].1.received(buffer.span)
            // As the engine's next read does.
            for index in buffer.indices { buffer[index] = 0xEE }
        }
        #expect(Set(sources) == [0, 1, 2, 3])
        for (index, (connection, stream)) in peers.enumerated() {
            let sent = stream.sent.reduce(into: []) { $0 += $1 }
            #expect(sent.count == written[index].count && memcmp(sent, written[index], sent.count) == 0)
            connection.reset()
        }
        driver.turn()
    }

    @Test func `lines of what was received leave in one call`() {
        let (connection, stream) = driver.connect()
        connection.onData = { connection, bytes in
            for start in stride(from: 0, to: bytes.count, by: 16) {
                connection.write(bytes.extracting(start..<min(start + 16, bytes.count)))
            }
        }
        let bytes = pseudoRandomBytes(count: 1_600, seed: 1)
        stream.received(bytes.span)
        #expect(stream.sent == [bytes])
        connection.reset()
        driver.turn()
    }

    /// Where one callback's bytes were there are others in the next one, and they change before it returns.
    @Test func `only what the running callback was given is left where it is`() {
        let (connection, stream) = driver.connect()
        let memory = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 16)
        defer { memory.deallocate() }
        memory.initialize(repeating: 1)
        stream.received(memory.span)
        loop.core.perform(.timer) {
            connection.write(memory.span)
            memory.update(repeating: 2)
        }
        #expect(stream.sent == [[UInt8](repeating: 1, count: 16)])
        connection.reset()
        driver.turn()
    }

    @Test func `a large array that goes to many is not copied`() {
        let peers = (0..<5).map { _ in driver.connect() }
        var place: UnsafePointer<UInt8>?
        func write(_ message: [UInt8]) {
            for (connection, _) in peers { connection.write(message) }
            place = message.withUnsafeBufferPointer { $0.baseAddress }
        }
        var others: [[UInt8]] = []
        loop.core.perform(.timer) {
            write(pseudoRandomBytes(count: 5_000, seed: 1))
            // Where it is there would now be others, if nobody kept it.
            others = (0..<8).map { _ in [UInt8](repeating: 0xEE, count: 5_000) }
        }
        for (connection, stream) in peers {
            #expect(stream.sent == [pseudoRandomBytes(count: 5_000, seed: 1)])
            #expect(stream.kept.map { $0.withUnsafeBufferPointer { $0.baseAddress } } == [place])
            connection.reset()
        }
        #expect(others.count == 8)
        driver.turn()
    }

    @Test func `with other bytes of its connection, and beside another one, it is`() {
        let peers = (0..<3).map { _ in driver.connect() }
        let first = pseudoRandomBytes(count: 2_000, seed: 1)
        let second = pseudoRandomBytes(count: 3_000, seed: 2)
        loop.core.perform(.timer) {
            peers[0].0.write(first)
            peers[1].0.write(second)
            peers[0].0.write("and more")
            peers[2].0.write("before")
            peers[2].0.write(first)
        }
        #expect(peers[0].1.sent == [first + "and more".utf8])
        #expect(peers[1].1.sent == [second])
        #expect(peers[2].1.sent == ["before".utf8 + first])
        #expect(peers.allSatisfy { $0.1.kept.isEmpty })
        for (connection, _) in peers { connection.reset() }
        driver.turn()
    }

    @Test func `it is let go of when it is sent, or its connection closes`() {
        let (connection, stream) = driver.connect()
        for isClosed in [false, true] {
            loop.core.perform(.timer) {
                connection.write([UInt8](repeating: 1, count: 2_000))
                #expect(!loop.core.batch.kept.isEmpty)
                if isClosed { connection.reset() }
                #expect(loop.core.batch.kept.isEmpty == isClosed)
            }
            #expect(loop.core.batch.kept.isEmpty)
        }
        #expect(stream.sent.count == 1)
        driver.turn()
    }

    /// A queue would otherwise hold more than twice what it counts.
    @Test(arguments: [
        (1_023, 1_023, false), (1_024, 1_024, true), (1_024, 2_000, true), (1_024, 2_200, false),
        (500_000, 990_000, true), (499_999, 1_010_000, false),
    ])
    func `an array of which little is left is not kept`(left: Int, count: Int, isKept: Bool) {
        var array = [UInt8](repeating: 0, count: count)
        #expect(Connection.isKept(left, of: array) == isKept)
        // Its memory is as large as it was.
        array.removeLast(count - left)
        #expect(Connection.isKept(left, of: array) == isKept)
    }

    @Test func `after a failure nothing more is sent, and the others are not concerned`() {
        let (broken, brokenStream) = driver.connect()
        let (sound, soundStream) = driver.connect()
        brokenStream.failure = EPIPE
        var reasons: [CloseReason] = []
        broken.onClose = { _, reason in reasons.append(reason) }
        loop.core.perform(.timer) {
            for _ in 0..<10 {
                broken.write("lost")
                sound.write("kept")
            }
        }
        brokenStream.failure = nil
        #expect(broken.write("more") == .closed)
        #expect(brokenStream.sent.isEmpty && broken.bytesUnsent == 40 && broken.bytesWritten == 0)
        #expect(String(decoding: soundStream.sent.joined(), as: UTF8.self) == String(repeating: "kept", count: 10))
        broken.close()
        sound.reset()
        driver.turn()
        #expect(reasons == [.peerReset])
    }
}
