import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

/// Tells when it is let go.
private final class Notice: Sendable {
    private let flag: Flag

    init(_ flag: Flag) { self.flag = flag }

    deinit { flag.set() }
}

/// Work on other threads. The pool of libuv is the process's, so what counts its threads runs in a process alone.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Offloading` {
    struct Failure: Error, Equatable { let number: Int }

    @Test(arguments: Engine.allCases)
    func `the result comes on the loop's thread, once, and the loop waits for it`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let thread = pthread_self()
        let here = UInt(thread)
        var results: [Int] = []
        var isInside = true
        try loop.offload({ UInt(pthread_self()) == here ? 0 : 42 }) { result in
            #expect(!isInside && pthread_equal(pthread_self(), thread) != 0)
            if case .success(let value) = result { results.append(value) }
        }
        #expect(loop.isAlive)
        isInside = false
        try loop.run()
        #expect(results == [42])
        #expect(!loop.isAlive)
    }

    @Test(arguments: Engine.allCases)
    func `an error arrives as a failure`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var failure: Failure?
        try loop.offload({ () throws -> Int in throw Failure(number: 7) }) { result in
            if case .failure(let error) = result { failure = error as? Failure }
        }
        try loop.run()
        #expect(failure == Failure(number: 7))
    }

    @Test(arguments: Engine.allCases)
    func `two hundred works each bring their own result`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var results: [Int: Int] = [:]
        for number in 0..<200 {
            try loop.offload({ number * number }) { result in
                #expect(results[number] == nil)
                results[number] = try? result.get()
            }
        }
        try loop.run()
        #expect(results == Dictionary(uniqueKeysWithValues: (0..<200).map { ($0, $0 * $0) }))
    }

    @Test(arguments: Engine.allCases)
    func `then may offload again, and write`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var rounds = 0
        func next() throws {
            try loop.offload({ 1 }) { _ in
                rounds += 1
                if rounds < 50 { #expect(throws: Never.self) { try next() } }
            }
        }
        try next()
        try loop.run()
        #expect(rounds == 50)
    }

    @Test(arguments: Engine.allCases)
    func `what work and then captured is let go afterwards`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        weak var (work, then, value): (Token?, Token?, Token?) = (nil, nil, nil)
        do {
            let (first, second) = (Token(), Token())
            (work, then) = (first, second)
            try loop.offload({
                _ = first
                return Token()
            }) { result in
                _ = second
                value = try? result.get()
                #expect(value != nil)
            }
        }
        #expect(then != nil)
        try loop.run()
        #expect(then == nil)
        // The thread may still be on its way out of the function.
        waitUntil("end of the work") { work == nil && value == nil }
    }

    @Test(arguments: Engine.allCases)
    func `four are at work at a time, and the fifth waits`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            let (begun, done) = (Count(), Count())
            let gate = Flag()
            for _ in 0..<5 {
                try loop.offload({
                    begun.raise()
                    gate.wait()
                }) { _ in done.raise() }
            }
            try loop.run(until: { begun.value == 4 })
            // The fifth could begin at any moment, if there were a thread for it.
            for _ in 0..<200 { try loop.run(.noWait) }
            #expect(begun.value == 4 && done.value == 0)
            gate.set()
            try loop.run()
            #expect(begun.value == 5 && done.value == 5)
        }
    }

    @Test(arguments: Engine.allCases)
    func `letting go of the loop waits for work that has begun, and drops the rest`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            for _ in 0..<20 {
                var loop: EventLoop? = try EventLoop(engine: engine)
                let (begun, ended, gate, dropped) = (Count(), Count(), Flag(), Flag())
                weak var token: Token?
                do {
                    let held = Token()
                    token = held
                    for number in 0..<8 {
                        let notice = number < 4 ? nil : Notice(dropped)
                        try loop?.offload({
                            _ = notice
                            begun.raise()
                            gate.wait()
                            ended.raise()
                        }) { _ in Issue.record("told, though its loop has gone: \(held)") }
                    }
                }
                waitUntil("work") { begun.value == 4 }
                let opener = onThread {
                    dropped.wait()
                    gate.set()
                }
                loop = nil
                #expect(begun.value == 4 && ended.value == 4, "begun \(begun.value), ended \(ended.value)")
                #expect(token == nil)
                try opener.value()
            }
        }
    }

    @Test(arguments: Engine.allCases)
    func `a connection goes on while work is under way`(engine: Engine) throws {
        let server = try PlainServer(.ipv4)
        let gate = Flag()
        let peer = server.serve { client in
            for _ in 0..<10 {
                try client.send("x")
                _ = try client.receive(exactly: 1)
            }
            gate.set()
            try client.halfClose()
        }
        let loop = try EventLoop(engine: engine)
        let diary = Diary()
        diary.reactions.data = { connection, _ in connection.write("y") }
        var isDone = false
        try loop.offload({ gate.wait() }) { _ in isDone = true }
        try diary.follow { try loop.connect(to: server.address) }
        try loop.run()
        try peer.value()
        #expect(isDone && diary.bytes.count == 10)
    }

    // MARK: The resolver

    @Test(arguments: Engine.allCases)
    func `fifty questions at once are each answered once`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var answers: [Int: Result<[SocketAddress], IOError>] = [:]
        for number in 0..<50 {
            // One unknown name is enough: a name server that does not answer takes its time.
            let host = number == 3 ? "nobody.invalid" : ["localhost", "127.0.0.1", "::1", "127.0.0.2"][number % 4]
            try loop.resolve(host: host, port: number) { answer in
                #expect(answers[number] == nil)
                answers[number] = answer
            }
        }
        try loop.run()
        #expect(answers.count == 50)
        for (number, answer) in answers {
            switch number % 4 {
            case 0:
                let addresses = try answer.get()
                let loopback = ["127.0.0.1", "::1"]
                #expect(!addresses.isEmpty && addresses.allSatisfy { loopback.contains($0.host) })
                #expect(addresses.allSatisfy { $0.port == number })
                #expect(Set(addresses).count == addresses.count, "each once")
            case 1: #expect(try answer.get() == [.ipv4("127.0.0.1", port: number)])
            case 2: #expect(try answer.get() == [.ipv6("::1", port: number)])
            case 3 where number > 3: #expect(try answer.get() == [.ipv4("127.0.0.2", port: number)])
            default:
                guard case .failure(let error) = answer else {
                    Issue.record("\(answer)")
                    continue
                }
                #expect(error.call == "getaddrinfo" && [ENOENT, EAGAIN].contains(error.errno))
            }
        }
    }
}
