import CallbackServer
import Glibc
import TestSupport
import Testing

/// Descriptors that somebody else has made, closed, or given twice, and signals that no loop watches.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What others do to a loop's descriptors and signals` {
    @Test(arguments: Engine.allCases)
    func `a descriptor that the loop has already is refused`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let (descriptor, peer) = try PlainClient.pair(isBlocking: false)
        let first = try loop.adopt(connected: descriptor)
        // Before the first turn, while nothing is read, and while it is paused.
        for _ in 0..<3 {
            let error = #expect(throws: IOError.self) { try loop.adopt(connected: descriptor) }
            #expect(error?.name == "EEXIST" && error?.detail?.contains("\(descriptor)") == true)
            try loop.run(.noWait)
            first.pause()
        }
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { [unowned loop] connection in
            let error = #expect(throws: IOError.self) { try loop.adopt(connected: connection.descriptor) }
            #expect(error?.name == "EEXIST")
            connection.close()
            loop.stop()
        }
        let client = try PlainClient(port: UInt16(listener.localAddress.port ?? 0))
        try loop.run()
        first.resume()
        first.onData = { connection, bytes in connection.write(bytes) }
        try peer.send("still whole")
        try loop.run(.once)
        #expect(try peer.receive(exactly: 11) == Array("still whole".utf8))
        client.close()
    }

    @Test(arguments: Engine.allCases)
    func `a linger time that a socket brings along is switched off`(engine: Engine) throws {
        let loop = try EventLoop(engine: engine)
        let server = try PlainListener()
        let client = try PlainClient(port: server.port)
        let near = duplicate(client.descriptor)
        setLinger(near)
        let connection = try loop.adopt(connected: near)
        #expect(!lingers(connection.descriptor))
        let listening = duplicate(server.descriptor)
        setLinger(listening)
        var accepted = 0
        let listener = try loop.listen(adopting: listening) { [unowned loop] connection in
            #expect(!lingers(connection.descriptor), "inherited from the listener")
            accepted += 1
            loop.stop()
        }
        try loop.run()
        #expect(accepted == 1)
        listener.close()
    }

    @Test(arguments: Engine.allCases)
    func `a signal that no loop watches is no event`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            let loop = try EventLoop(engine: engine)
            signal(SIGUSR2) { _ in }
            let thread = UInt(pthread_self())
            let done = Flag()
            let sender = onThread {
                while !done.isSet {
                    pthread_kill(pthread_t(thread), SIGUSR2)
                    sched_yield()
                }
            }
            let timer = loop.schedule(after: .milliseconds(100)) { _ in }
            try loop.run(.once)
            done.set()
            try sender.value()
            #expect(!timer.isArmed, "the run returned without an event")
        }
    }

    /// poll(2) and select(2) tell in the next turn. epoll forgets a closed descriptor, so only a write finds out.
    @Test(arguments: Engine.allCases)
    func `a descriptor that is closed behind the loop ends one connection alone`(engine: Engine) async {
        await #expect(processExitsWith: .success) { [engine] in
            var open: [Connection] = []
            var reasons: [CloseReason] = []
            let stage = try Stage(engine) { connection in
                open.append(connection)
                echo(connection)
                connection.onClose = { reasons.append($1) }
            }
            let clients = try (0..<2).map { _ in try PlainClient(port: stage.port) }
            try stage.run(until: { open.count == 2 })
            close(open[0].descriptor)
            if [.libuv, .epoll].contains(engine) { open[0].write("x") }
            try stage.run(until: { reasons.count == 1 })
            guard case .failed(let error) = reasons[0] else { return #expect(Bool(false), "\(reasons)") }
            #expect(error.name == "EBADF")
            let answer = onThread { try clients[1].echoExactly(1_000) }
            try stage.run(until: { answer.isFinished })
            try answer.value()
            #expect(reasons.count == 1)
            withExtendedLifetime(clients) {}
        }
    }

    /// uv_tcp_open(3) refuses a number that its loop watches (EEXIST). accept(2) has not failed, so nothing backs off.
    @Test func `with libuv, a client with the number of a connection that is still open is turned away`() async {
        await #expect(processExitsWith: .success) {
            var open: [Connection] = []
            let stage = try Stage(.libuv) { connection in
                open.append(connection)
                echo(connection)
            }
            var (shed, errors) = ([Listener.Shed.Cause: Int](), 0)
            stage.listener.onShed = { shed[$1.cause, default: 0] += $1.count }
            stage.listener.onError = { _, _ in errors += 1 }
            let first = try PlainClient(port: stage.port)
            try stage.run(until: { open.count == 1 })
            let refused = try (0..<2).map { _ in try PlainClient(port: stage.port) }
            // The lowest number that is free, so the next client gets it.
            let descriptor = open[0].descriptor
            let fillers = try takeDescriptors(below: descriptor)
            close(descriptor)
            try stage.run(until: { shed[.engineLimit] == 2 })
            open[0].reset()
            try stage.run(until: { stage.listener.connectionCount == 0 })
            let client = onThread { [port = stage.port] in try PlainClient(port: port).echoExactly(1_000) }
            try stage.run(until: { client.isFinished })
            try client.value()
            #expect(errors == 0)
            withExtendedLifetime((first, refused)) { for filler in fillers { close(filler) } }
        }
    }
}

private func setLinger(_ descriptor: Int32) {
    var value = linger(l_onoff: 1, l_linger: 60)
    #expect(setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size)) == 0)
}

private func lingers(_ descriptor: Int32) -> Bool {
    var value = linger()
    var length = socklen_t(MemoryLayout<linger>.size)
    #expect(getsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, &length) == 0)
    return value.l_onoff != 0
}
