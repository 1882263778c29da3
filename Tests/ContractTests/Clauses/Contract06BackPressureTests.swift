import CallbackServer
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 6: back-pressure` {
    /// Marks below, at and above what the kernel or the batch takes at once.
    static let marks = [1, 2, 100, 65_535, 65_536, 65_537, 1_000_000]

    @Test(arguments: Engine.allCases, marks)
    func `write answers saturated from exactly the high water mark on`(engine: Engine, mark: Int) throws {
        var drains = 0
        let options = Listener.Options.connections {
            $0.highWaterMark = mark
            $0.lowWaterMark = mark / 2
            $0.sendBufferSize = 8_192
        }
        let stage = try Stage(engine, options: options) { connection in
            connection.onData = { connection, _ in
                fill(connection)
                // From here on the kernel takes nothing, so that each byte written is one more in the queue.
                let room = mark + connection.bufferedByteCount
                connection.options.highWaterMark = room
                while connection.bufferedByteCount < room {
                    let isLast = connection.bufferedByteCount + 1_000 >= room
                    let size = isLast ? room - connection.bufferedByteCount - 1 : 1_000
                    if size > 0 {
                        #expect(connection.write([UInt8](repeating: 2, count: size)) == .flowing)
                    }
                    guard isLast else { continue }
                    #expect(connection.bufferedByteCount == room - 1)
                    #expect(connection.write([3]) == .saturated)
                    #expect(connection.bufferedByteCount == room)
                }
                #expect(connection.write([3]) == .saturated)
                #expect(drains == 0)
            }
            connection.onDrain = { connection in
                drains += 1
                #expect(connection.bufferedByteCount <= mark / 2)
                connection.end()
            }
        }
        try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 8_192)
            try client.send("x")
            _ = try client.receiveUntilEnd()
        }
        #expect(drains == 1)
    }

    @Test(arguments: Engine.allCases, [(1, 0), (1_000, 0), (1_000, 999), (65_536, 16_384), (200_000, 1)])
    func `small writes of one callback count at once, before the kernel has seen them`(
        engine: Engine, marks: (high: Int, low: Int)
    ) throws {
        var statuses: [WriteStatus] = []
        var drains = 0
        let options = Listener.Options.connections {
            $0.highWaterMark = marks.high
            $0.lowWaterMark = marks.low
        }
        let count = 2_000
        let stage = try Stage(engine, options: options) { connection in
            connection.onData = { connection, _ in
                for number in 1...count {
                    statuses.append(connection.write("x"))
                    #expect(connection.bufferedByteCount == number)
                }
            }
            connection.onDrain = { connection in
                drains += 1
                #expect(connection.bufferedByteCount == 0)
                connection.end()
            }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            _ = try client.receive(exactly: count)
        }
        let flowing = min(count, marks.high - 1)
        #expect(
            statuses == Array(repeating: .flowing, count: flowing)
                + Array(repeating: .saturated, count: count - flowing))
        #expect(drains == (marks.high <= count ? 1 : 0))
    }

    @Test(arguments: Engine.allCases)
    func `onDrain runs once for each time the mark was reached, and not without`(engine: Engine) throws {
        let rounds = 30
        var events: [String] = []
        var round = 0
        weak var loop: EventLoop?
        let stage = try Stage(engine) { connection in
            func saturate(_ connection: Connection) {
                round += 1
                // Twice saturated is still owed one onDrain.
                for size in [200_000, 300_000] {
                    while connection.write([UInt8](repeating: 1, count: size)) != .saturated {}
                }
                events.append("saturated")
            }
            connection.onData = { connection, _ in
                // Never reaches the mark, so it owes nothing.
                connection.write("flowing")
                loop?.schedule(after: .milliseconds(5)) { _ in saturate(connection) }
            }
            connection.onDrain = { connection in
                events.append("drain")
                #expect(connection.bufferedByteCount <= connection.options.lowWaterMark)
                if round == rounds { return connection.end() }
                // From inside and from outside of onDrain.
                if round.isMultiple(of: 2) { return saturate(connection) }
                loop?.schedule(after: .zero) { _ in saturate(connection) }
            }
        }
        loop = stage.loop
        try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 65_536)
            try client.send("x")
            var piece = 1
            while piece > 0 { piece = try client.receiveSome(max: 1 << 20).count }
        }
        #expect(events == (0..<rounds).flatMap { _ in ["saturated", "drain"] })
    }

    @Test(arguments: Engine.allCases)
    func `whoever pauses until onDrain and ends meanwhile still gets onDrain, and the peer's end`(
        engine: Engine
    ) throws {
        var events: [String] = []
        let options = Listener.Options.connections {
            $0.sendBufferSize = 8_192
            // Ends the run of a loop that waits for ever.
            $0.timeouts.idle = .seconds(10)
        }
        let stage = try Stage(engine, options: options) { connection in
            connection.onData = { connection, _ in
                #expect(connection.write([UInt8](repeating: 1, count: 2_000_000)) == .saturated)
                connection.pause()
                connection.end()
            }
            connection.onDrain = { connection in
                events.append("drain")
                #expect(connection.write("late") == .closed)
                connection.resume()
            }
            connection.onEnd = { _ in events.append("end") }
            connection.onClose = { _, reason in events.append("\(reason)") }
        }
        try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 8_192)
            try client.send("x")
            #expect(try client.receiveUntilEnd().count == 2_000_000)
        }
        #expect(events == ["drain", "end", "\(CloseReason.localClose)"])
    }

    @Test(arguments: Engine.allCases)
    func `a queue that the kernel takes at once drains before a close that both ends make`(engine: Engine) throws {
        var events: [String] = []
        let options = Listener.Options.connections {
            $0.highWaterMark = 1_000
            $0.lowWaterMark = 0
        }
        let stage = try Stage(engine, options: options) { connection in
            connection.onEnd = { connection in
                while connection.write("0123456789") != .saturated {}
                connection.end()
            }
            connection.onDrain = { _ in events.append("drain") }
            connection.onClose = { _, _ in events.append("close") }
        }
        try stage.run { port in
            let client = try PlainClient(port: port)
            try client.halfClose()
            #expect(try client.receiveUntilEnd().count == 1_000)
        }
        #expect(events == ["drain", "close"])
    }

    @Test(arguments: Engine.allCases)
    func `an eager onDrain does not keep the loop from everything else`(engine: Engine) throws {
        weak var loop: EventLoop?
        var drains = 0
        var ticks = 0
        let options = Listener.Options.connections {
            $0.highWaterMark = 1
            $0.lowWaterMark = 0
        }
        let stage = try Stage(engine, options: options) { connection in
            connection.onData = { connection, _ in
                connection.write("x")
                loop?.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
                    ticks += 1
                    guard ticks == 20 else { return }
                    timer.cancel()
                    connection.end()
                }
            }
            connection.onDrain = { connection in
                // The last one may come after `end()`.
                if connection.write("x") != .closed { drains += 1 }
            }
        }
        loop = stage.loop
        let received = try stage.run { port in
            let client = try PlainClient(port: port)
            try client.send("x")
            return try client.receiveUntilEnd().count
        }
        #expect(ticks == 20)
        #expect(drains > 1 && received == drains + 1)
    }

    @Test(arguments: Engine.allCases)
    func `buffered bytes become fewer as the kernel takes them, also within one long write`(engine: Engine) throws {
        var first: Int?
        var later: Int?
        let count = 32 << 20
        let stage = try Stage(engine, options: .connections { $0.sendBufferSize = 65_536 }) { connection in
            connection.write([UInt8](repeating: 1, count: count))
            first = connection.bufferedByteCount
            connection.onData = { connection, _ in
                later = connection.bufferedByteCount
                connection.reset()
            }
        }
        try stage.run { port in
            let client = try PlainClient(port: port, receiveBuffer: 65_536)
            _ = try client.receive(exactly: count / 2)
            try client.send("half of it is here")
            _ = try client.receiveUntilOver()
        }
        let before = try #require(first)
        let after = try #require(later)
        #expect(before > count / 2)
        // The peer has half, so that the server can hold no more than the other half.
        #expect(after <= count / 2)
    }

    @Test(arguments: Engine.allCases)
    func `a peer that sends without end and never reads makes the queue no longer than the marks`(
        engine: Engine
    ) throws {
        var longest = 0
        let isPaused = Milestone("the echo to pause")
        let stage = try Stage(engine) { connection in
            connection.onData = { connection, bytes in
                if connection.write(bytes) == .saturated {
                    connection.pause()
                    isPaused.reach()
                }
                longest = max(longest, connection.bufferedByteCount)
            }
            connection.onDrain = { $0.resume() }
        }
        let sent = try stage.run { port -> Int in
            let client = try PlainClient(port: port)
            let piece = [UInt8](repeating: 1, count: 1 << 20)
            var sent = 0
            while sent < 256 << 20 {
                let count = try client.sendSome(piece)
                sent += count
                // Nobody takes anything any more once the echo has paused and the kernel is full.
                if count == 0, isPaused.isReached { break }
                if count == 0 { sched_yield() }
            }
            try client.reset()
            return sent
        }
        #expect(isPaused.isReached)
        #expect(sent < 256 << 20, "the echo took it all")
        // One read beyond the high water mark.
        #expect(longest <= 65_536 + EventLoop.Options().readBufferSize)
    }

    @Test(arguments: Engine.allCases)
    func `a peer that sends 256 MiB and never reads costs the process less than 16 MiB`(engine: Engine) throws {
        // The echo program, since the memory of this process is also that of the tests beside this one.
        let path = try ChildProcess.pathOfBuiltProduct("echo")
        let child = try ChildProcess(path, ["--engine", engine.rawValue, "--port", "0", "--quiet"])
        let line = try child.readLine()
        let port = try #require(UInt16(line.split(separator: " ").last ?? ""))
        let warmUp = try PlainClient(port: port)
        try warmUp.echoExactly(1 << 20)
        let before = try residentBytes(of: child.pid)
        let greedy = try PlainClient(port: port)
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        var sent = 0
        var largest = before
        // The echo serves others after each failure to send, so it has had its turn with these bytes as well.
        var refusals = 0
        while sent < 256 << 20, refusals < 20 {
            let count = try greedy.sendSome(piece)
            sent += count
            refusals = count == 0 ? refusals + 1 : 0
            try warmUp.echoExactly(1_000)
            largest = max(largest, try residentBytes(of: child.pid))
        }
        #expect(largest - before < 16 << 20, "grew by \((largest - before) >> 20) MiB for \(sent >> 20) MiB")
        try greedy.reset()
        warmUp.close()
        child.signal(SIGTERM)
        #expect(try child.waitForExit() == .exited(0))
    }
}

/// Writes until the kernel takes no more: there is a queue, and nobody reads.
private func fill(_ connection: Connection) {
    while connection.bufferedByteCount == 0 {
        connection.write([UInt8](repeating: 1, count: 20_000))
    }
}
