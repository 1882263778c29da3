import Glibc
import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel
@testable import ReadinessEngine

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `A poller` {
    @Test(arguments: PollerKind.allCases)
    func `reports what a descriptor was asked for, again and again`(kind: PollerKind) throws {
        try withPoller(kind) { poller in
            let pair = try SocketPair()
            let token = Token(descriptor: pair.own.descriptor, generation: 7)
            #expect(try poll(poller) == [])
            try poller.change(token, from: [], to: .readable)
            #expect(try poll(poller) == [])
            try pair.peer.send("x")
            for _ in 0..<3 { #expect(try poll(poller) == [Told(token, .readable)]) }
            try poller.change(token, from: .readable, to: [.readable, .writable])
            #expect(try poll(poller) == [Told(token, [.readable, .writable])])
            try poller.change(token, from: [.readable, .writable], to: .writable)
            #expect(try poll(poller) == [Told(token, .writable)])
            try poller.change(token, from: .writable, to: [])
            #expect(try poll(poller) == [])
        }
    }

    @Test(arguments: PollerKind.allCases)
    func `forgets a descriptor that leaves, whatever else is in the set`(kind: PollerKind) throws {
        try withPoller(kind) { poller in
            let pairs = try (0..<5).map { _ in try SocketPair() }
            let tokens = pairs.map { Token(descriptor: $0.own.descriptor, generation: 1) }
            for token in tokens { try poller.change(token, from: [], to: .readable) }
            for pair in pairs { try pair.peer.send("x") }
            // From the middle, the front and the back: each leaves a gap elsewhere.
            var left = tokens
            for gone in [2, 0, 4] {
                try poller.change(tokens[gone], from: .readable, to: [])
                left.removeAll { $0 == tokens[gone] }
                #expect(Set(try poll(poller).map(\.bits)) == Set(left.map(\.bits)))
            }
            try poller.change(tokens[0], from: [], to: .readable)
            #expect(try poll(poller).count == 3)
            withExtendedLifetime(pairs) {}
        }
    }

    @Test(arguments: PollerKind.allCases)
    func `looks last at one descriptor, whoever comes and goes`(kind: PollerKind) throws {
        try withPoller(kind) { poller in
            // The last one has the lowest number.
            let last = try SocketPair()
            let pairs = try (0..<4).map { _ in try SocketPair() }
            let tokens = pairs.map { Token(descriptor: $0.own.descriptor, generation: 1) }
            let lastToken = Token(descriptor: last.own.descriptor, generation: 1)
            for pair in pairs + [last] { try pair.peer.send("x") }
            try poller.change(tokens[0], from: [], to: .readable)
            try poller.watchLast(lastToken)
            for token in tokens.dropFirst() { try poller.change(token, from: [], to: .readable) }
            func expect(_ others: [Token], _ hasLast: Bool) throws {
                let told = try poll(poller).map(\.bits)
                #expect(Set(told) == Set((others + (hasLast ? [lastToken] : [])).map(\.bits)))
                // The kernel's order for epoll, which looks at nothing that is not ready.
                if kind != .epoll, hasLast { #expect(told.last == lastToken.bits) }
            }
            try expect(tokens, true)
            // The first, the one before the last, and one in the middle.
            var left = tokens
            for gone in [0, 3, 1] {
                try poller.change(tokens[gone], from: .readable, to: [])
                left.removeAll { $0 == tokens[gone] }
                try expect(left, true)
            }
            try poller.change(tokens[3], from: [], to: .readable)
            try expect([tokens[2], tokens[3]], true)
            try poller.watchLast(nil)
            try expect([tokens[2], tokens[3]], false)
            try poller.watchLast(lastToken)
            try expect([tokens[2], tokens[3]], true)
            withExtendedLifetime((pairs, last)) {}
        }
    }

    @Test(arguments: PollerKind.allCases)
    func `tells of a reset to one who asked for either direction`(kind: PollerKind) throws {
        for asked in [Readiness.readable, .writable] {
            try withPoller(kind) { poller in
                let pair = try SocketPair()
                let token = Token(descriptor: pair.own.descriptor, generation: 1)
                try poller.change(token, from: [], to: asked)
                try pair.peer.reset()
                try pair.own.waitUntilReadable()
                #expect(try poll(poller).first?.readiness.isSuperset(of: asked) == true)
            }
        }
    }

    @Test(arguments: PollerKind.allCases)
    func `forgets nobody when more are ready than one wait tells`(kind: PollerKind) throws {
        try withPoller(kind) { poller in
            // Only epoll tells of no more than 256 at a time; select has room for few beside those of other tests.
            let pairs = try (0..<(kind == .epoll ? 300 : 40)).map { _ in try SocketPair.unix() }
            for pair in pairs {
                try pair.peer.send("x")
                try poller.change(Token(descriptor: pair.own.descriptor, generation: 0), from: [], to: .readable)
            }
            var seen: Set<UInt64> = []
            for _ in 0..<2 { for told in try poll(poller) { seen.insert(told.bits) } }
            #expect(seen.count == pairs.count)
        }
    }

    @Test(arguments: PollerKind.allCases)
    func `waits for as long as it is told, and no longer`(kind: PollerKind) throws {
        try withPoller(kind) { poller in
            let start = ContinuousClock.now
            let count = try poller.wait(milliseconds: 30)
            #expect(count == 0)
            #expect(ContinuousClock.now - start >= .milliseconds(30))
        }
    }

    @Test func `select refuses a descriptor beyond its sets by name`() throws {
        let token = Token(descriptor: 1_024, generation: 0)
        let error = #expect(throws: IOError.self) { try SelectPoller().change(token, from: [], to: .readable) }
        #expect(error?.call == "select")
        #expect(error?.description.contains("descriptor 1024 is not below FD_SETSIZE, 1024") == true)
    }

    @Test(
        arguments: [
            (0x001, .readable), (0x004, .writable), (0x005, [.readable, .writable]),
            (0x008, [.readable, .writable]), (0x010, [.readable, .writable]), (0x2001, .readable), (0, []),
        ] as [(Int, Readiness)])
    func `means by its bits what the loop needs to know`(bits: Int, meaning: Readiness) {
        #expect(readiness(ofEpollBits: UInt32(bits)) == meaning)
        // On Linux both have the same numbers.
        #expect(readiness(ofPollBits: Int16(bits)) == meaning)
    }

    @Test(arguments: [(.readable, 1), (.writable, 4), ([.readable, .writable], 5), ([], 0)] as [(Readiness, Int)])
    func `asks for neither more nor less`(readiness: Readiness, bits: Int) {
        #expect(epollBits(of: readiness) == UInt32(bits))
        #expect(pollBits(of: readiness) == Int16(bits))
    }

    private func withPoller(_ kind: PollerKind, _ body: (any Poller) throws -> Void) throws {
        let poller = try AnyPoller(kind).poller
        defer { poller.close() }
        try body(poller)
    }

    private struct Told: Equatable {
        let bits: UInt64
        let readiness: Readiness

        init(_ token: Token, _ readiness: Readiness) {
            bits = token.bits
            self.readiness = readiness
        }
    }

    private func poll(_ poller: any Poller) throws -> [Told] {
        try (0..<poller.wait(milliseconds: 0)).map { Told(poller.event($0).token, poller.event($0).readiness) }
    }
}

/// Two connected sockets.
private struct SocketPair {
    let own: PlainClient
    let peer: PlainClient

    init() throws {
        let listener = try PlainListener()
        peer = try PlainClient(port: listener.port)
        own = try listener.accept()
    }

    private init(own: PlainClient, peer: PlainClient) {
        self.own = own
        self.peer = peer
    }

    static func unix() throws -> SocketPair {
        let (descriptor, peer) = try PlainClient.pair()
        return SocketPair(own: PlainClient(adopting: descriptor), peer: peer)
    }
}
