import CNames
import CallbackServer
import Glibc
import TestSupport
import Testing

/// What becomes of a question to the resolver, with names that are answered when the test says so.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Look-ups` {
    /// A loop with as many threads for names, and names that no other test has.
    private struct Stage {
        let loop: EventLoop
        private let mark = UInt64.random(in: 0 ... .max)

        init(_ engine: Engine, threads: Int = 4) throws {
            var options = EventLoop.Options()
            options.lookUpThreads = threads
            loop = try EventLoop(engine: engine, options: options)
        }

        func held(_ name: String) -> String { "held-\(name)-\(mark)" }
        func known(_ name: String) -> String { "known-\(name)-\(mark)" }
    }

    @Test(arguments: Engine.allCases)
    func `a number is answered in the next turn, whatever hangs`(engine: Engine) throws {
        let stage = try Stage(engine)
        let loop = stage.loop
        for index in 0..<20 { try loop.resolve(host: stage.held("\(index)"), port: 1) { _ in } }
        let gate = Flag()
        for _ in 0..<4 { try loop.offload({ gate.wait() }) { _ in } }
        var isInside = true
        var answers: [SocketAddress] = []
        for (host, port) in [("127.0.0.1", 80), ("::1", 81), ("fe80::1%1", 82)] {
            try loop.resolve(host: host, port: port) { answer in
                #expect(!isInside)
                answers += (try? answer.get()) ?? []
            }
        }
        isInside = false
        try loop.run(.noWait)
        let scoped = try SocketAddress.ipv6("fe80::1%1", port: 82)
        #expect(answers == [try .ipv4("127.0.0.1", port: 80), try .ipv6("::1", port: 81), scoped])
        gate.set()
        for index in 0..<20 { names_let_go(stage.held("\(index)")) }
        try loop.run()
    }

    @Test(arguments: Engine.allCases)
    func `withdrawn before a thread has begun it, a question leaves the queue`(engine: Engine) throws {
        let stage = try Stage(engine, threads: 1)
        let loop = stage.loop
        let (first, second, third) = (stage.held("first"), stage.held("second"), stage.known("third"))
        var told: [String] = []
        try loop.resolve(host: first, port: 1) { _ in told.append("first") }
        waitUntil("look-up") { names_asked(first) == 1 }
        let withdrawn = try loop.resolve(host: second, port: 1) { _ in told.append("second") }
        try loop.resolve(host: third, port: 1) { _ in told.append("third") }
        withdrawn.cancel()
        withdrawn.cancel()
        names_let_go(first)
        try loop.run()
        #expect(told == ["first", "third"] && names_asked(second) == 0)
    }

    @Test(arguments: Engine.allCases)
    func `a question that nobody waits for holds no loop, also when its thread is at work`(engine: Engine) throws {
        let stage = try Stage(engine, threads: 1)
        let loop = stage.loop
        let (first, second) = (stage.held("first"), stage.held("second"))
        let begun = try loop.resolve(host: first, port: 1) { _ in Issue.record("answered") }
        waitUntil("look-up") { names_asked(first) == 1 }
        let waiting = try loop.resolve(host: second, port: 1) { _ in Issue.record("answered") }
        let number = try loop.resolve(host: "127.0.0.1", port: 1) { _ in Issue.record("answered") }
        #expect(loop.isAlive)
        for lookUp in [begun, waiting, number] { lookUp.cancel() }
        #expect(!loop.isAlive)
        try loop.run()
        // Its thread comes back while the loop is there, and is not told.
        names_let_go(first)
        var isTold = false
        try loop.resolve(host: stage.known("third"), port: 1) { _ in isTold = true }
        try loop.run()
        #expect(isTold && names_asked(second) == 0)
    }

    @Test(arguments: Engine.allCases)
    func `a loop that is let go waits for no look-up, and the late answer finds nobody`(engine: Engine) throws {
        for isCancelled in [false, true] {
            var stage: Stage? = try Stage(engine, threads: 2)
            let (first, second) = (try #require(stage).held("first"), try #require(stage).held("second"))
            weak var token: Token?
            do {
                let held = Token()
                token = held
                for host in [first, second] {
                    let lookUp = try stage?.loop.resolve(host: host, port: 1) { _ in Issue.record("answered: \(held)") }
                    if isCancelled { lookUp?.cancel() }
                }
            }
            if !isCancelled { waitUntil("look-ups") { names_asked(first) + names_asked(second) == 2 } }
            stage = nil
            #expect(token == nil)
            for host in [first, second] { names_let_go(host) }
        }
    }

    @Test(arguments: Engine.allCases)
    func `one look-up serves all who ask for the same name at the same time`(engine: Engine) throws {
        let stage = try Stage(engine)
        let loop = stage.loop
        let name = stage.held("name")
        var ports: [Int] = []
        var lookUps: [EventLoop.LookUp] = []
        for port in 1...10 {
            lookUps.append(
                try loop.resolve(host: name, port: port) { answer in
                    #expect(throws: Never.self) { try #expect(answer.get() == [.ipv4("127.0.0.1", port: port)]) }
                    ports.append(port)
                    // The next but one is withdrawn as the answer is being told.
                    if port == 4 { lookUps[5].cancel() }
                })
        }
        lookUps[2].cancel()
        waitUntil("look-up") { names_asked(name) == 1 }
        names_let_go(name)
        try loop.run()
        #expect(ports == [1, 2, 4, 5, 7, 8, 9, 10] && names_asked(name) == 1)
        // Later is another time.
        try loop.resolve(host: name, port: 11) { _ in ports.append(11) }
        try loop.run()
        #expect(ports.last == 11 && names_asked(name) == 2)
    }

    @Test(arguments: Engine.allCases)
    func `who asks again for a name that is still looked up takes no second thread`(engine: Engine) throws {
        let stage = try Stage(engine, threads: 2)
        let loop = stage.loop
        let name = stage.held("name")
        try loop.resolve(host: name, port: 1) { _ in Issue.record("answered") }.cancel()
        let first = try loop.resolve(host: name, port: 1) { _ in Issue.record("answered") }
        waitUntil("look-up") { names_asked(name) == 1 }
        first.cancel()
        for _ in 0..<80 { try loop.resolve(host: name, port: 1) { _ in Issue.record("answered") }.cancel() }
        var isTold = false
        try loop.resolve(host: name, port: 2) { _ in isTold = true }
        names_let_go(name)
        try loop.run()
        #expect(isTold && names_asked(name) == 1)
    }

    @Test(arguments: Engine.allCases, [1, 4, 64])
    func `as many names as there are threads are looked up at a time`(engine: Engine, threads: Int) throws {
        let stage = try Stage(engine, threads: threads)
        let loop = stage.loop
        let names = (0...threads).map { stage.held("\($0)") }
        var count = 0
        for name in names { try loop.resolve(host: name, port: 1) { _ in count += 1 } }
        waitUntil("look-ups") { names.dropLast().allSatisfy { names_asked($0) == 1 } }
        // The last could begin at any moment, if there were a thread for it.
        for _ in 0..<200 { try loop.run(.noWait) }
        #expect(names_asked(names[threads]) == 0 && count == 0)
        for name in names { names_let_go(name) }
        try loop.run()
        #expect(count == threads + 1)
    }

    @Test(arguments: Engine.allCases)
    func `a width out of bounds is refused`(engine: Engine) throws {
        for threads in [Int.min, -1, 0, 65, Int.max] {
            let error = #expect(throws: IOError.self) { _ = try Stage(engine, threads: threads) }
            #expect(
                error?.errno == EINVAL && error?.detail?.contains("\(threads)") == true, "\(String(describing: error))")
        }
    }

    enum Act: CaseIterable { case reset, close, closeAfterWrite, timeout }

    @Test(arguments: Engine.allCases, Act.allCases)
    func `a connection that is closed withdraws its question`(engine: Engine, act: Act) throws {
        let stage = try Stage(engine, threads: 1)
        let loop = stage.loop
        let name = stage.held("name")
        let diary = Diary()
        let connection = try diary.follow {
            try loop.connect(
                host: name, port: 1,
                options: .with {
                    $0.connection.timeouts.connect = .milliseconds(50)
                    $0.connection.timeouts.close = .milliseconds(50)
                })
        }
        waitUntil("look-up") { names_asked(name) == 1 }
        switch act {
        case .reset: connection.reset()
        case .close: connection.close()
        case .closeAfterWrite:
            connection.write("x", completion: diary.completion())
            connection.close()
        case .timeout: break
        }
        try loop.run()
        #expect(diary.isClosed && !loop.isAlive)
        diary.expectOrder()
        // It had the only thread until now.
        names_let_go(name)
        try loop.resolve(host: stage.known("other"), port: 1) { _ in }
        try loop.run()
        #expect(names_asked(stage.known("other")) == 1)
    }

    @Test(arguments: Engine.allCases)
    func `a resolver that does not answer is told as such`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        var error: IOError?
        try loop.resolve(host: "failing-name", port: 1) { answer in
            if case .failure(let failure) = answer { error = failure }
        }
        try loop.run()
        #expect(error == IOError(call: "getaddrinfo", errno: EAGAIN, detail: "host \"failing-name\""))
    }

    // MARK: What the system lacks

    /// Not under a sanitizer, which itself makes a thread when the process ends.
    @Test(.enabled(if: !isSanitized), arguments: Engine.allCases)
    func `where no thread can be made, EAGAIN is thrown and nothing is left`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            forbidThreads()
            for _ in 0..<3 {
                let calls: [() throws -> Void] = [
                    { try loop.offload({ 1 }) { _ in Issue.record("worked") } },
                    { _ = try loop.resolve(host: "localhost", port: 1) { _ in Issue.record("resolved") } },
                    { _ = try loop.connect(host: "localhost", port: 1) },
                ]
                for call in calls {
                    let error = #expect(throws: IOError.self) { try call() }
                    #expect(error?.call == "pthread_create" && error?.errno == EAGAIN)
                }
                #expect(!loop.isAlive)
            }
            // A number needs none.
            var isAnswered = false
            try loop.resolve(host: "127.0.0.1", port: 1) { _ in isAnswered = true }
            try loop.run()
            #expect(isAnswered)
        }
    }

    @Test(arguments: Engine.allCases)
    func `where no descriptor is left, a known name is not told as unknown`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            var errors: [IOError] = []
            try withDescriptorLimit(3) {
                for host in ["fe80::1%lo", "localhost"] {
                    try loop.resolve(host: host, port: 1) { answer in
                        if case .failure(let error) = answer { errors.append(error) }
                    }
                }
                try loop.run()
            }
            #expect(
                errors.map(\.errno) == [EMFILE, EMFILE] && errors.allSatisfy { $0.call == "getaddrinfo" }, "\(errors)")
            var answer: Result<[SocketAddress], IOError>?
            try loop.resolve(host: "localhost", port: 1) { answer = $0 }
            try loop.run()
            #expect(throws: Never.self) { try answer?.get() }
        }
    }

    enum Call: String, CaseIterable, Codable { case offload, resolve, connect, run }

    @Test(arguments: Engine.allCases, Call.allCases)
    func `a child of fork traps in place of work that would be lost`(engine: Engine, call: Call) async {
        await #expect(processExitsWith: .success) { [engine, call] in
            let loop = try EventLoop(engine: engine)
            var ends: [Int32] = [0, 0]
            pipe(&ends)
            let child = names_fork()
            if child == 0 {
                dup2(ends[1], STDERR_FILENO)
                switch call {
                case .offload: try loop.offload({ 1 }) { _ in }
                case .resolve: try loop.resolve(host: "127.0.0.1", port: 1) { _ in }
                case .connect: _ = try loop.connect(host: "127.0.0.1", port: 1)
                case .run: try loop.run()
                }
                _exit(0)
            }
            close(ends[1])
            var text: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4_096)
            while case let count = read(ends[0], &buffer, buffer.count), count > 0 { text += buffer[..<count] }
            var status: Int32 = 0
            #expect(waitpid(child, &status, 0) == child && status & 0x7f != 0, "it ended with \(status)")
            let name = call == .connect ? "resolve" : call.rawValue
            #expect(
                String(decoding: text, as: UTF8.self).contains("EventLoop.\(name) was called in a child of fork(2)"))
            // The parent's goes on.
            var isDone = false
            try loop.offload({ 1 }) { _ in isDone = true }
            try loop.run()
            #expect(isDone)
        }
    }

    @Test(arguments: Engine.allCases)
    func `a child of fork may let go of a loop, which stays the parent's`(engine: Engine) async throws {
        await #expect(processExitsWith: .success) { [engine] in
            var loop: EventLoop? = try EventLoop(engine: engine)
            let server = try PlainServer(.ipv4)
            let peer = server.serve { client in
                try client.send("x")
                return try client.receiveUntilEnd()
            }
            let diary = Diary()
            diary.reactions.data = { connection, _ in connection.close() }
            try diary.follow { try #require(loop).connect(to: server.address) }
            // Work that a thread has begun, which the child has not.
            let gate = Flag()
            try loop?.offload({ gate.wait() }) { _ in }
            let child = names_fork()
            if child == 0 {
                loop = nil
                _exit(7)
            }
            var status: Int32 = 0
            waitpid(child, &status, 0)
            #expect(status == 7 << 8)
            gate.set()
            try loop?.run(diary, peer)
            #expect(diary.bytes.count == 1 && diary.closeReason == .localClose)
        }
    }
}

/// From now on this process can make no thread.
private func forbidThreads() {
    var limit = rlimit(rlim_cur: 1, rlim_max: 1)
    // RLIMIT_NPROC, which is hidden behind an enumeration's name.
    setrlimit(__rlimit_resource_t(6), &limit)
    // To root it does not apply (getrlimit(2)).
    if getuid() == 0 { setuid(65_534) }
}
