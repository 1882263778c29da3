import CallbackServer
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1)))
struct `Contract 3: data` {
    @Test(arguments: Engine.allCases)
    func `every byte comes back, NULs included`(engine: Engine) throws {
        let stage = try Stage(engine, serve: echo)
        let sent = pseudoRandomBytes(count: 300_000, seed: 3) + [UInt8](repeating: 0, count: 10_000)
        let back = try stage.run { port in
            let client = try PlainClient(port: port)
            let reader = onThread { try client.receive(exactly: sent.count) }
            try client.send(sent)
            return try reader.value(timeLimit: .seconds(10))
        }
        #expect(back == sent)
    }
}
