@_spi(Engine) import CallbackModel
import Glibc
import TestSupport
import Testing

@testable import LinuxSockets

/// What the kernel says of a socket at a passed time-out.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What waits and what was sent` {
    /// Two connected TCP sockets; nothing blocks.
    private func tcpPair() throws -> (PlainClient, PlainClient) {
        let listener = try PlainListener()
        let one = try PlainClient(port: listener.port, receiveBuffer: 8_192)
        return (one, try listener.accept())
    }

    private func fill(_ client: PlainClient) throws -> Int {
        let piece = [UInt8](repeating: 1, count: 64 << 10)
        var sum = 0
        while case let count = try client.sendSome(piece), count > 0 { sum += count }
        return sum
    }

    @Test(arguments: [true, false])
    func `input is bytes, the end, or a reset`(isTCP: Bool) throws {
        for ending in ["bytes", "end", "reset"] {
            let (one, two): (PlainClient, PlainClient)
            if isTCP {
                (one, two) = try tcpPair()
            } else {
                let (descriptor, other) = try PlainClient.pair()
                (one, two) = (PlainClient(adopting: descriptor), other)
            }
            #expect(!hasInput(two.descriptor))
            switch ending {
            case "bytes": try one.send("x")
            case "end": try one.halfClose()
            default: try one.reset()
            }
            try two.waitUntilReadable()
            #expect(hasInput(two.descriptor), "\(ending)")
        }
        #expect(!hasInput(-1) && !hasRoom(-1))
    }

    @Test func `room goes when the kernel is full, and comes when the peer reads`() throws {
        let (descriptor, two) = try PlainClient.pair()
        let one = PlainClient(adopting: descriptor)
        #expect(hasRoom(one.descriptor))
        let count = try fill(one)
        #expect(!hasRoom(one.descriptor))
        _ = try two.receive(exactly: count)
        #expect(hasRoom(one.descriptor))
    }

    @Test func `a socket that connects has room when it is decided`() throws {
        // One client fills the queue of a listener that never accepts; the next one waits.
        let listener = try PlainListener(backlog: 0)
        let first = try PlainClient(port: listener.port)
        func begin(_ port: UInt16) -> PlainClient {
            let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            let client = PlainClient(adopting: socket(AF_INET, type, 0))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = connect(client.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            return client
        }
        let waiting = begin(listener.port)
        #expect(!hasRoom(waiting.descriptor))
        let refused = begin(try unusedPort())
        #expect(hasRoom(refused.descriptor))
        let answering = try PlainListener()
        let open = begin(answering.port)
        #expect(hasRoom(open.descriptor), "on loopback it opens inside the call")
        withExtendedLifetime((first, waiting, refused, open)) {}
    }

    @Test func `TCP counts what the peer has acknowledged`() throws {
        let (one, two) = try tcpPair()
        func acknowledged() throws -> UInt64 {
            guard case .acknowledged(let count, _)? = sendProgress(two.descriptor) else {
                throw PeerError(call: "getsockopt", cause: .errno(errno), waitedFor: "TCP_INFO")
            }
            return count
        }
        let before = try acknowledged()
        try two.send([UInt8](repeating: 1, count: 1_000))
        _ = try one.receive(exactly: 1_000)
        // A delayed acknowledgement takes up to 40 ms.
        let end = ContinuousClock.now + .seconds(10)
        while try acknowledged() < before + 1_000, .now < end { sched_yield() }
        #expect(try acknowledged() == before + 1_000)
        // Much more than the peer has room for.
        let sent = try fill(two)
        #expect(try acknowledged() < before + 1_000 + UInt64(sent))
    }

    @Test func `a Unix socket tells what is not read, which is its buffer's size at least when it is full`() throws {
        let (descriptor, two) = try PlainClient.pair()
        let one = PlainClient(adopting: descriptor)
        #expect(sendProgress(descriptor).map { if case .untaken(0, _) = $0 { true } else { false } } == true)
        let count = try fill(one)
        guard case .untaken(let untaken, let full)? = sendProgress(one.descriptor) else {
            return #expect(Bool(false), "a Unix socket that is TCP")
        }
        #expect(untaken >= full)
        _ = try two.receive(exactly: count / 2)
        guard case .untaken(let rest, full)? = sendProgress(one.descriptor) else {
            return #expect(Bool(false), "a Unix socket whose buffer has changed")
        }
        #expect(rest < full)
        #expect(sendProgress(-1) == nil)
    }
}
