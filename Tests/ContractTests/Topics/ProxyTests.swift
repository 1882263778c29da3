import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

/// `pipe(to:)` at work: a proxy between a side that is fast and one that is slow (contract clause 6).
/// `CALLBACKSERVER_PROXY_MIB=1024` is the full size, and tells figures.
@Suite(.serialized, .timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 6: a proxy` {
    // In a process of its own, whose memory is not also that of the tests beside it.
    @Test(arguments: Engine.allCases)
    func `from a fast client to a slow server its memory does not grow`(engine: Engine) async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) { [engine] in
            try carry(engine, isClientFast: true)
        }
        tell(result)
    }

    @Test(arguments: Engine.allCases)
    func `from a fast server to a slow client neither`(engine: Engine) async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) { [engine] in
            try carry(engine, isClientFast: false)
        }
        tell(result)
    }

    @Test(arguments: Engine.allCases, [true, false])
    func `a reset of either side resets the other, and no other pair`(engine: Engine, isClientFirst: Bool) throws {
        let backend = try PlainListener()
        let proxy = try Proxy(engine, to: .ipv4("127.0.0.1", port: Int(backend.port)))
        let port = proxy.port
        let thread = onThread {
            let bystander = try Pair(port, backend)
            try bystander.exchange("before")
            let pair = try Pair(port, backend)
            try pair.exchange("before")
            let (first, second) = isClientFirst ? (pair.client, pair.server) : (pair.server, pair.client)
            // More than the way holds, so that the proxy has paused the side that now breaks.
            try first.sendUntilStuck()
            try first.reset()
            #expect(try second.receiveUntilOver().ending == .reset)
            try bystander.exchange("after")
            let next = try Pair(port, backend)
            try next.exchange("a new one")
        }
        try proxy.loop.run(until: { thread.isFinished }, timeLimit: .seconds(30))
        try thread.value()
    }

    @Test(arguments: Engine.allCases)
    func `a server that cannot be reached resets the client`(engine: Engine) throws {
        let backend = try PlainListener()
        let address = try SocketAddress.ipv4("127.0.0.1", port: Int(backend.port))
        let proxy = try Proxy(engine, to: address)
        let port = proxy.port
        backend.close()
        let thread = onThread {
            let client = try PlainClient(port: port)
            #expect(try client.receiveUntilOver().ending == .reset)
        }
        try proxy.loop.run(until: { thread.isFinished })
        try thread.value()
    }

    private func tell(_ result: ExitTest.Result?) {
        let text = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
        for line in text.split(separator: "\n") where line.hasPrefix("proxy, ") { print(line) }
    }
}

/// A client of the proxy and the server's end of its connection.
private struct Pair: Sendable {
    let client: PlainClient
    let server: PlainClient

    init(_ port: UInt16, _ backend: PlainListener, receiveBuffer: Int32? = nil) throws {
        client = try PlainClient(port: port, receiveBuffer: receiveBuffer, timeLimit: .seconds(20))
        server = try backend.accept()
    }

    func exchange(_ text: String) throws {
        for (from, to) in [(client, server), (server, client)] {
            try from.send(text)
            #expect(try to.receive(exactly: text.utf8.count) == Array(text.utf8))
        }
    }
}

extension PlainClient {
    /// Sends until a quarter of a second has passed in which the kernel took nothing.
    fileprivate func sendUntilStuck() throws {
        let piece = [UInt8](repeating: 0x78, count: 1 << 20)
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        var count = 0
        while poll(&entry, 1, 250) == 1 {
            count += try sendSome(piece)
            guard count < 256 << 20 else { throw PeerError(call: "send", cause: .unexpected("no end"), waitedFor: "") }
        }
    }
}

/// Lets one side send all it can and the other read slowly; the memory must not have grown by 4 MiB at any time.
private func carry(_ engine: Engine, isClientFast: Bool) throws {
    let mebibytes = size("CALLBACKSERVER_PROXY_MIB", orElse: 64)
    // The slow side's window is small, so that the bytes wait in the proxy or behind it and not with the slow side.
    let backend = try PlainListener(receiveBuffer: isClientFast ? 65_536 : nil, timeLimit: .seconds(20))
    let proxy = try Proxy(engine, to: .ipv4("127.0.0.1", port: Int(backend.port)))
    let port = proxy.port
    let transfer = { @Sendable (size: Int) in
        let pair = try Pair(port, backend, receiveBuffer: isClientFast ? nil : 65_536)
        let (fast, slow) = isClientFast ? (pair.client, pair.server) : (pair.server, pair.client)
        let reader = onThread { try readSlowly(slow, size) }
        try sendFast(fast, size)
        try fast.expectEnd()
        try reader.value()
    }
    // What the first connections, threads and buffers cost is there before.
    let warmUp = onThread { try transfer(1 << 20) }
    try proxy.loop.run(until: { warmUp.isFinished })
    try warmUp.value()

    let start = ContinuousClock.now
    let before = try residentBytes()
    var most = before
    let thread = onThread { try transfer(mebibytes << 20) }
    try proxy.loop.run(
        until: {
            most = max(most, (try? residentBytes()) ?? .max)
            return thread.isFinished
        }, timeLimit: .seconds(500))
    try thread.value()
    #expect(isSanitized || most - before < 4 << 20, "\(most - before) bytes for \(mebibytes) MiB")
    guard mebibytes > 64 else { return }
    let direction = isClientFast ? "fast client to slow server" : "fast server to slow client"
    print("proxy, \(engine), \(direction): \(mebibytes) MiB in \(ContinuousClock.now - start), ", terminator: "")
    print("grown by \((most - before) >> 10) KiB at most")
}

/// Bytes that no multiple of a buffer's size maps onto themselves: their count is a prime.
private let block = pseudoRandomBytes(count: 262_139, seed: 6)

private func sendFast(_ client: PlainClient, _ size: Int) throws {
    var sent = 0
    while sent < size {
        let start = sent % block.count
        let piece = Array(block[start..<min(block.count, start + min(65_536, size - sent))])
        try client.send(piece)
        sent += piece.count
    }
    try client.halfClose()
}

/// Reads 16 KiB at a time and rests for a millisecond after each 256 KiB, so that the other side has to wait.
private func readSlowly(_ client: PlainClient, _ size: Int) throws {
    var received = 0
    while case let piece = try client.receiveSome(max: 16_384), !piece.isEmpty {
        let start = received % block.count
        let first = min(piece.count, block.count - start)
        let isSame = piece.withUnsafeBytes { piece in
            block.withUnsafeBytes { block in
                memcmp(piece.baseAddress!, block.baseAddress! + start, first) == 0
                    && (first == piece.count
                        || memcmp(piece.baseAddress! + first, block.baseAddress!, piece.count - first) == 0)
            }
        }
        guard isSame else {
            throw PeerError(call: "recv", cause: .unexpected("other bytes at \(received)"), waitedFor: "the block's")
        }
        if (received + piece.count) >> 18 != received >> 18 { poll(nil, 0, 1) }
        received += piece.count
    }
    #expect(received == size)
    client.close()
}
