import CallbackServer
import Glibc
import Synchronization
import TestSupport
import Testing

/// Signals are the process's, so each of these plays in a process of its own.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 15: signals and pipes` {
    @Test(arguments: Engine.allCases)
    func `the first loop lets SIGPIPE pass, and children have its default action`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            signal(SIGPIPE, SIG_DFL)
            let loop = try EventLoop(engine: engine)
            #expect(kill(getpid(), SIGPIPE) == 0, "kill")
            try loop.run()
            // Of what a program has ignored when it starts, a shell says nothing; the kernel does (proc(5)).
            #expect(try childIgnoresSigpipe() == false)
        }
    }

    @Test(arguments: Engine.allCases)
    func `what a program has set for SIGPIPE itself stays`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            signal(SIGPIPE, SIG_IGN)
            let loop = try EventLoop(engine: engine)
            try loop.run()
            var action = sigaction()
            sigaction(SIGPIPE, nil, &action)
            // SIG_IGN, which signal(2) defines as the handler 1.
            #expect(unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1)
            #expect(try childIgnoresSigpipe())
        }
    }

    @Test(arguments: Engine.allCases)
    func `writing to a peer that has gone is told, and kills nobody`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            signal(SIGPIPE, SIG_DFL)
            var open: [ObjectIdentifier: Connection] = [:]
            var reasons: [CloseReason] = []
            let stage = try Stage(engine) { connection in
                open[ObjectIdentifier(connection)] = connection
                connection.onClose = { connection, reason in
                    open[ObjectIdentifier(connection)] = nil
                    reasons.append(reason)
                }
            }
            // Each writes again and again, also after the first write has met the reset.
            let writing = stage.loop.schedule(after: .zero, repeating: .milliseconds(1)) { _ in
                for connection in open.values {
                    connection.write("a")
                    connection.write([UInt8](repeating: 98, count: 20_000))
                }
            }
            stage.mayEnd = { reasons.count == 100 }
            try stage.run { port in
                for index in 0..<100 {
                    let client = try PlainClient(port: port)
                    _ = try client.receive(exactly: 1)
                    if index.isMultiple(of: 2) { try client.reset() } else { client.close() }
                }
            }
            writing.cancel()
            #expect(reasons.allSatisfy { $0 == .peerReset || $0 == .peerClosed }, "\(Set(reasons))")
        }
    }

    @Test(arguments: Engine.allCases)
    func `a storm of signals interrupts calls, and nobody sees it`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in interruptions.add(1, ordering: .relaxed) }
            // Without SA_RESTART, so that the kernel never resumes a call by itself (signal(7)).
            action.sa_flags = 0
            sigaction(SIGUSR1, &action, nil)
            // The threads on which tests run have all signals blocked.
            var storming = sigset_t()
            sigemptyset(&storming)
            sigaddset(&storming, SIGUSR1)
            pthread_sigmask(SIG_UNBLOCK, &storming, nil)
            let stage = try Stage(engine, serve: echo)
            let stop = Flag()
            let target = LoopThread(pthread_self())
            let storm = onThread {
                while !stop.isSet {
                    pthread_kill(target.thread, SIGUSR1)
                    poll(nil, 0, 0)
                }
            }
            // Also while connections come and go.
            try stage.run { port in
                defer { stop.set() }
                // Enough bytes, and until enough signals have come: a busy machine sends them slowly.
                for round in 0..<500 where round < 8 || interruptions.load(ordering: .relaxed) <= 100 {
                    let client = try PlainClient(port: port)
                    try client.echoExactly(1 << 20, seed: UInt64(round))
                    client.close()
                }
            }
            try storm.value()
            let count = interruptions.load(ordering: .relaxed)
            #expect(count > 100, "only \(count) signals came")
        }
    }

    @Test(arguments: Engine.allCases)
    func `a watched signal is delivered on the loop, to every watcher`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            var events: [String] = []
            for name in ["one", "two"] {
                try loop.onSignal(.user1) { watcher in
                    events.append("\(name) \(watcher.signal.rawValue)")
                    watcher.cancel()
                }
            }
            try loop.onSignal(.user2) { watcher in
                events.append("three \(watcher.signal.rawValue)")
                watcher.cancel()
            }
            kill(getpid(), SIGUSR1)
            #expect(events == [], "delivered outside of run")
            try loop.run(until: { events.count == 2 })
            #expect(Set(events) == ["one 10", "two 10"], "\(events)")
            kill(getpid(), SIGUSR2)
            // All cancelled in their own callbacks: the run ends by itself.
            try loop.run()
            #expect(events.last == "three 12" && events.count == 3, "\(events)")
        }
    }

    @Test(arguments: Engine.allCases)
    func `a watcher goes on until it is cancelled, from wherever`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            var counts = [0, 0]
            var second: EventLoop.SignalWatcher?
            let first = try loop.onSignal(.user1) { _ in
                counts[0] += 1
                if counts[0] == 3 { second?.cancel() }
            }
            second = try loop.onSignal(.user1) { _ in counts[1] += 1 }
            for round in 1...5 {
                kill(getpid(), SIGUSR1)
                try loop.run(until: { counts[0] == round && (counts[1] == min(round, 3) || round >= 3) })
            }
            // In the third round the order of the two decides.
            #expect(counts[0] == 5 && (2...3).contains(counts[1]), "\(counts)")
            first.cancel()
            first.cancel()
            second?.cancel()
            try loop.run()
        }
    }

    @Test(arguments: Engine.allCases)
    func `the last watcher gone, the signal has its default action`(engine: Engine) async {
        await #expect(processExitsWith: .signal(SIGUSR1)) { [engine] in
            let loop = try EventLoop(engine: engine)
            let watcher = try loop.onSignal(.user1) { _ in }
            watcher.cancel()
            try loop.run()
            kill(getpid(), SIGUSR1)
            // Not reached: the signal is delivered before kill(2) returns.
            observe(for: .seconds(5))
        }
    }

    @Test(arguments: Engine.allCases)
    func `a watcher without a reference does not keep the loop`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            var count = 0
            let watcher = try loop.onSignal(.user1) { _ in count += 1 }
            #expect(loop.isAlive, "a watcher keeps the loop")
            watcher.unref()
            #expect(!loop.isAlive, "after unref")
            try loop.run()
            watcher.ref()
            #expect(loop.isAlive, "after ref")
            watcher.unref()
            kill(getpid(), SIGUSR1)
            try loop.run(until: { count == 1 })
            watcher.cancel()
        }
    }

    @Test(arguments: Engine.allCases, Engine.allCases)
    func `two loops are told of one signal, whichever stops watching first`(one: Engine, other: Engine) async {
        await #expect(processExitsWith: .success) { [one, other] in
            var earlier = sigaction()
            signal(SIGUSR1) { _ in interruptions.add(1, ordering: .relaxed) }
            sigaction(SIGUSR1, nil, &earlier)
            for isFirstCancelled in [true, false] {
                let loops = [try EventLoop(engine: one), try EventLoop(engine: other)]
                var counts = [0, 0]
                let watchers = try [0, 1].map { index in
                    try loops[index].onSignal(.user1) { _ in counts[index] += 1 }
                }
                /// One signal, and what each loop tells of it. A wait that is not over would be a loop that is deaf.
                func raiseOnce(_ told: [Int]) throws {
                    counts = [0, 0]
                    // To the process: libdispatch's threads, of which this is one, hold signals back.
                    kill(getpid(), SIGUSR1)
                    for index in told { try loops[index].run(until: { counts[index] == 1 }) }
                    for loop in loops { try loop.run(.noWait) }
                    #expect(counts == [0, 1].map { told.contains($0) ? 1 : 0 })
                }
                try raiseOnce([0, 1])
                let (gone, left) = isFirstCancelled ? (0, 1) : (1, 0)
                watchers[gone].cancel()
                try raiseOnce([left])
                watchers[left].cancel()
                var now = sigaction()
                sigaction(SIGUSR1, nil, &now)
                let handlers = [earlier, now].map { unsafeBitCast($0.__sigaction_handler.sa_handler, to: Int.self) }
                #expect(handlers[0] == handlers[1], "the action before is not given back")
            }
        }
    }

    @Test(arguments: Engine.allCases)
    func `many signals while bytes flow, watched`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let stage = try Stage(engine, serve: echo)
            var count = 0
            let watcher = try stage.loop.onSignal(.user2) { _ in count += 1 }
            try stage.run { port in
                let client = try PlainClient(port: port)
                for round in 0..<100 {
                    kill(getpid(), SIGUSR2)
                    try client.echoExactly(5_000, seed: UInt64(round))
                }
                client.close()
            }
            watcher.cancel()
            // Several of one kind may become one (signal(7)).
            #expect(count >= 1 && count <= 100, "\(count) of 100")
        }
    }
}

/// Counted by a signal handler, which may do little more.
private let interruptions = Atomic(0)

/// A thread's identity, to be used by another one.
private struct LoopThread: Sendable {
    let thread: pthread_t

    init(_ thread: pthread_t) { self.thread = thread }
}

/// Whether a program that this process starts finds SIGPIPE ignored.
private func childIgnoresSigpipe() throws -> Bool {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw PeerError(call: "pipe", cause: .errno(errno), waitedFor: "two descriptors") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
    var child = pid_t()
    let words = ["/bin/grep", "SigIgn", "/proc/self/status"]
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    let status = posix_spawn(&child, words[0], &actions, nil, &arguments, environ)
    close(ends[1])
    defer { close(ends[0]) }
    guard status == 0 else { throw PeerError(call: "posix_spawn", cause: .errno(status), waitedFor: words[0]) }
    var text = [UInt8](repeating: 0, count: 100)
    let count = read(ends[0], &text, text.count)
    waitpid(child, nil, 0)
    // "SigIgn:", white space, and a mask in hexadecimal of which bit 0 is signal 1.
    let digits = String(decoding: text.prefix(max(0, count)), as: UTF8.self).split { !$0.isHexDigit }.last ?? ""
    guard let mask = UInt64(digits, radix: 16) else {
        throw PeerError(call: "read", cause: .errno(EINVAL), waitedFor: "a mask of signals")
    }
    return mask & (1 << UInt64(SIGPIPE - 1)) != 0
}
