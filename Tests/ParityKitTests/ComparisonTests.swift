import CallbackServer
import ParityKit
import Testing

/// What the kit says of handlers and engines that do not agree.
@Suite(.timeLimit(.minutes(10)), .onOwnThread)
struct `A divergence` {
    private let ping = Peer(.send("ping"), .read(4), .halfClose, .readToEnd)

    private func scenario(_ change: (inout Scenario.Expectation) -> Void = { _ in }) -> Scenario {
        Scenario(
            "ping", source: "this test", handler: .script(Script(.echo)), peers: [ping],
            expected: [
                Scenario.Expectation(
                    received: .exactly("ping"), ended: true, closing: .peerClosed, peer: .exactly("ping"), .end
                ).with(change)
            ])
    }

    @Test func `is none where all is as expected`() {
        #expect(Parity.run(scenario(), on: Participant.engines).isEqual)
    }

    @Test func `shows the first line that differs, in context`() throws {
        let report = Parity.run(scenario { $0.peerReceived = .exactly("pong") }, on: [Participant(.epoll)])
        let divergence = try #require(report.divergences.first)
        #expect(report.divergences.count == 1)
        #expect(
            divergence.description == """
                ping, epoll against expected:
                    connection 0
                      drained: false
                      time-outs: none
                      closed: peerClosed
                  -   peer received: "pong"
                  +   peer received: "ping"
                """)
    }

    @Test func `of a peer that waits in vain is a violation`() throws {
        var endless = scenario()
        endless.peers = [Peer(.read(1))]
        endless.timeLimit = .milliseconds(200)
        let report = Parity.run(endless, on: [Participant(.libuv)])
        // The loop has the same limit, and whose comes first is the scheduler's business.
        let words = ["recv: the time limit has passed", "the loop did not come to its end"]
        #expect(report.divergences.contains { $0.reference == nil && words.contains(where: $0.text.contains) })
    }

    @Test func `of an engine that cannot be made is a violation`() {
        let broken = Participant("broken") { _ throws(IOError) in throw IOError(call: "epoll_create1", errno: 24) }
        let report = Parity.run(scenario(), on: [broken])
        #expect(report.divergences.contains { $0.text.contains("EMFILE") })
    }
}

@Suite struct `A payload` {
    @Test func `is the same for the same seed`() {
        #expect(Payload.pattern(1, count: 100_000).bytes == Payload.pattern(1, count: 100_000).bytes)
        #expect(Payload.pattern(1, count: 100).bytes != Payload.pattern(2, count: 100).bytes)
    }

    @Test func `has the bytes of its parts, in order`() {
        let payload: Payload = "ab" + .pattern(3, count: 5) + .bytes([1, 2])
        #expect(payload.count == 9)
        #expect(payload.bytes == Array("ab".utf8) + Payload.pattern(3, count: 5).bytes + [1, 2])
    }
}
