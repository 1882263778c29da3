import CallbackServer
import ParityKit
import Testing

/// The handler under test: it answers each line with its length.
func lengthsOfLines(_ loop: EventLoop) -> (Connection) -> Void {
    { connection in
        var length = 0
        connection.onData = { connection, bytes in
            for index in bytes.indices {
                if bytes[index] == UInt8(ascii: "\n") {
                    connection.write("\(length)\n")
                    length = 0
                } else {
                    length += 1
                }
            }
        }
    }
}

@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `The page on checking your own server` {
    @Test func `has an example that runs, and prints nothing`() {
        let engines = Engine.allCases.map { engine in
            Participant(engine.rawValue) { options throws(IOError) in
                try EventLoop(engine: engine, options: options)
            }
        }

        let scenario = Scenario(
            "lengths of lines, two bytes at a time", source: "our protocol, section 2",
            handler: .closure(lengthsOfLines),
            peers: [Peer(.drip("hello\nmy\nworld\n", by: 2), .read(6), .halfClose, .readToEnd)],
            expected: [
                Scenario.Expectation(
                    received: .exactly("hello\nmy\nworld\n"), ended: true, closing: .peerClosed,
                    peer: .exactly("5\n2\n5\n"), .end)
            ])

        let report = Parity.run(scenario, on: engines)
        for divergence in report.divergences { print(divergence) }
        #expect(report.isEqual)
    }
}
