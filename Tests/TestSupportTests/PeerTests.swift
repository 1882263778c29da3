import Glibc
import TestSupport
import Testing

/// The two ends of a new TCP connection.
private func connectedPair(
    receiveBuffer: Int32? = nil, timeLimit: Duration = .seconds(10)
) throws -> (client: PlainClient, peer: PlainClient) {
    let listener = try PlainListener(receiveBuffer: receiveBuffer, timeLimit: timeLimit)
    let client = try PlainClient(port: listener.port, sendBuffer: receiveBuffer, timeLimit: timeLimit)
    return (client, try listener.accept())
}

/// Sends back what comes until FIN, then FIN.
private func echo(_ peer: PlainClient) throws {
    while true {
        let bytes = try peer.receiveSome()
        if bytes.isEmpty { return try peer.halfClose() }
        try peer.send(bytes)
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Plain clients and listeners` {
    @Test(arguments: ["127.0.0.1", "::1"])
    func `lines, counts and the end of input arrive over TCP`(host: String) throws {
        let listener = try PlainListener(host: host)
        let client = try PlainClient(port: listener.port, host: host)
        let peer = try listener.accept()
        #expect(client.localPort == peer.remotePort)
        #expect(client.remotePort == listener.port)
        try client.send("one\ntwo\nrest")
        try client.halfClose()
        #expect(try peer.receiveLine() == "one")
        #expect(try peer.receive(exactly: 4) == Array("two\n".utf8))
        #expect(try peer.receiveUntilEnd() == Array("rest".utf8))
        try peer.expectEnd()
        // A half-close leaves the other direction open.
        try peer.send("answer\n")
        #expect(try client.receiveLine() == "answer")
    }

    @Test func `a Unix socket in the file system and one in the abstract namespace connect`() throws {
        let directory = try TemporaryDirectory()
        let name = "cbs-\(getpid())-peer-tests"
        let path = directory.path(of: "s")
        let pairs = [
            (try PlainListener(unixPath: path), { try PlainClient(unixPath: path) }),
            (try PlainListener(abstractName: name), { try PlainClient(abstractName: name) }),
        ]
        for (listener, connect) in pairs {
            let client = try connect()
            let peer = try listener.accept()
            try client.send("x")
            client.close()
            #expect(try peer.receiveUntilEnd() == Array("x".utf8))
            #expect(client.localPort == 0)
        }
    }

    @Test func `a reset comes behind the bytes before it`() throws {
        let (client, peer) = try connectedPair()
        try client.send("abc")
        try peer.waitUntilReadable()
        try client.reset()
        let (bytes, ending) = try peer.receiveUntilOver()
        #expect(bytes == Array("abc".utf8))
        #expect(ending == .reset)
    }

    @Test func `a reset is told even if a send heard of it first`() throws {
        let (client, peer) = try connectedPair()
        try client.reset()
        try peer.waitUntilReadable()
        #expect { try peer.send("x") } throws: { ($0 as? PeerError)?.errno == ECONNRESET }
        try peer.expectReset()
    }

    @Test func `what was not expected is an error that says what came`() throws {
        let (client, peer) = try connectedPair()
        try client.send("no")
        #expect { try peer.expectEnd() } throws: { "\($0)".contains("bytes came: [110, 111]") }
        client.close()
        #expect { try peer.expectReset() } throws: { "\($0)".contains("the end of input came") }
        #expect { try peer.receive(exactly: 1) } throws: { "\($0)".contains("byte 0 of 1") }
        #expect { try client.send("x") } throws: { ($0 as? PeerError)?.errno == EBADF }
    }

    @Test func `an urgent byte is not part of the stream`() throws {
        let (client, peer) = try connectedPair()
        try client.sendUrgent(UInt8(ascii: "!"))
        try client.send("text")
        try client.halfClose()
        #expect(try peer.receiveUntilEnd() == Array("text".utf8))
    }

    @Test func `a refused connection is an error with its name`() throws {
        // A port with a connection on it and no listener: nobody else can be given it meanwhile.
        let (client, _) = try connectedPair()
        #expect { _ = try PlainClient(port: client.localPort) } throws: {
            "\($0)".hasPrefix("connect: ECONNREFUSED")
        }
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Streams in both directions` {
    @Test func `64 MiB come back intact, and then the end of input`() throws {
        let (client, peer) = try connectedPair()
        let echoing = onThread { try echo(peer) }
        try client.echoExactly(64 << 20)
        try client.halfClose()
        try client.expectEnd()
        try echoing.value()
    }

    @Test func `a wrong byte is found and named`() throws {
        let (client, peer) = try connectedPair()
        let spoiling = onThread {
            var bytes = try peer.receive(exactly: 5_000)
            bytes[4_321] ^= 1
            try peer.send(bytes)
        }
        #expect { try client.echoExactly(5_000, chunk: 1_000, seed: 7) } throws: {
            "\($0)".hasPrefix("echo: byte 4321 is ")
        }
        try spoiling.value()
    }

    @Test func `sending some stops where the peer's window ends`() throws {
        let (client, peer) = try connectedPair(receiveBuffer: 8_192)
        let bytes = pseudoRandomBytes(count: 4 << 20)
        let sent = try client.sendSome(bytes)
        #expect(sent > 0)
        #expect(sent < bytes.count)
        client.close()
        #expect(try peer.receiveUntilEnd() == Array(bytes[..<sent]))
    }

    @Test func `pseudo-random bytes depend on the seed alone`() {
        // splitmix64 gives 0xE220A8397B1DCDAF first from seed 0.
        #expect(pseudoRandomBytes(count: 8, seed: 0) == [0xAF, 0xCD, 0x1D, 0x7B, 0x39, 0xA8, 0x20, 0xE2])
        #expect(pseudoRandomBytes(count: 1_003, seed: 5) == pseudoRandomBytes(count: 1_003, seed: 5))
        #expect(pseudoRandomBytes(count: 1_003, seed: 5) != pseudoRandomBytes(count: 1_003, seed: 6))
    }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Time limits` {
    private static let short = Duration.milliseconds(20)

    @Test func `every wait for a silent peer ends with the limit`() throws {
        let (client, peer) = try connectedPair(receiveBuffer: 8_192, timeLimit: Self.short)
        let listener = try PlainListener(timeLimit: Self.short)
        let waits: [(String, () throws -> Void)] = [
            ("receive", { _ = try client.receive(exactly: 1) }),
            ("receiveSome", { _ = try client.receiveSome() }),
            ("receiveLine", { _ = try client.receiveLine() }),
            ("receiveUntilEnd", { _ = try client.receiveUntilEnd() }),
            ("receiveUntilOver", { _ = try client.receiveUntilOver() }),
            ("expectEnd", { try client.expectEnd() }),
            ("expectReset", { try client.expectReset() }),
            ("waitUntilReadable", { try client.waitUntilReadable() }),
            ("send", { try client.send(pseudoRandomBytes(count: 4 << 20)) }),
            ("echo", { try client.echoExactly(4 << 20) }),
            ("accept", { _ = try listener.accept() }),
        ]
        for (name, wait) in waits {
            #expect("\(name)", performing: wait, throws: { ($0 as? PeerError)?.isTimeLimit == true })
        }
        withExtendedLifetime(peer) {}
    }

    @Test func `a connection that nobody accepts ends with the limit`() throws {
        let directory = try TemporaryDirectory()
        // A full backlog makes connect(2) on a Unix socket wait (unix(7)).
        let listener = try PlainListener(unixPath: directory.path(of: "s"), backlog: 0)
        var waiting: [PlainClient] = []
        #expect {
            while waiting.count < 10 {
                waiting.append(try PlainClient(unixPath: directory.path(of: "s"), timeLimit: Self.short))
            }
        } throws: {
            ($0 as? PeerError)?.isTimeLimit == true
        }
        withExtendedLifetime(listener) {}
    }

    @Test func `a thread that does not finish in time leaves the caller an error, and finishes later`() throws {
        let (client, peer) = try connectedPair()
        let thread = onThread { try peer.receiveLine() }
        #expect { try thread.value(timeLimit: Self.short) } throws: {
            ($0 as? PeerError)?.isTimeLimit == true
        }
        #expect(!thread.isFinished)
        try client.send("late\n")
        #expect(try thread.value() == "late")
        #expect(thread.isFinished)
    }
}
