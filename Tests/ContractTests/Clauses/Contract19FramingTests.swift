import CallbackServer
import Glibc
import TestSupport
import Testing

/// Frames are whole, in order and once, however the stream is cut.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Contract 19: framing` {
    @Test(arguments: Engine.allCases, FrameForm.allCases)
    func `every frame comes whole, in order and once, however the stream is cut`(
        engine: Engine, form: FrameForm
    ) throws {
        var random = SplitMix64(seed: 19)
        let messages = (0..<size("CALLBACKSERVER_FRAMES", orElse: 2_000)).map { _ in form.message(&random) }
        let stage = try FrameStage(engine)
        form.frame(stage.connection, limit: form.limit(of: 300)) { stage.frames.append($0) }
        let stream = messages.flatMap { form.encode($0) }
        var position = 0
        while position < stream.count {
            let count = min(Int.random(in: 0..<400, using: &random) + 1, stream.count - position)
            try stage.receive(stream[position..<position + count])
            position += count
        }
        try stage.finish()
        #expect(stage.frames == messages)
        #expect(stage.reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases, FrameForm.allCases)
    func `a frame's callback pauses, and the next frames wait for resume`(engine: Engine, form: FrameForm) throws {
        let stage = try FrameStage(engine)
        form.frame(stage.connection, limit: 300) { frame in
            stage.frames.append(frame)
            if stage.frames.count % 2 == 1 { stage.connection.pause() }
        }
        let messages = (0..<5).map { [UInt8](repeating: 65 + $0, count: 10) }
        try stage.receive(messages.flatMap { form.encode($0) }[...])
        #expect(stage.frames == Array(messages.prefix(1)))
        try stage.peer.send(form.encode([1]))
        stage.connection.resume()
        try stage.turns(3)
        #expect(stage.frames == Array(messages.prefix(3)))
        stage.connection.resume()
        try stage.turns(3)
        #expect(stage.frames == messages)
        stage.connection.resume()
        try stage.finish()
        #expect(stage.frames == messages + [[1]])
    }

    enum Stopping: CaseIterable { case close, reset }

    @Test(arguments: Engine.allCases, Stopping.allCases)
    func `a frame's callback closes, and no frame follows`(engine: Engine, stopping: Stopping) throws {
        let stage = try FrameStage(engine)
        stage.connection.onLines { connection, line in
            stage.frames.append([UInt8](copying: line))
            if stopping == .close { connection.close() } else { connection.reset() }
        }
        try stage.receive(Array("one\ntwo\nthr".utf8)[...])
        try stage.loop.run()
        #expect(stage.frames == [Array("one".utf8)])
        #expect(stage.reason == (stopping == .close ? .localClose : .localReset))
    }

    @Test(arguments: Engine.allCases)
    func `end in a frame's callback leaves the frames that follow`(engine: Engine) throws {
        let stage = try FrameStage(engine)
        stage.connection.onLines { connection, line in
            stage.frames.append([UInt8](copying: line))
            connection.end()
        }
        try stage.receive(Array("one\ntwo\n".utf8)[...])
        try stage.finish()
        #expect(stage.frames == [Array("one".utf8), Array("two".utf8)])
    }

    /// Where a stream is cut, the protocol changes all the same.
    @Test(arguments: Engine.allCases, [3, 6, 9, 1000])
    func `another framing goes on behind the frame, and so does onData`(engine: Engine, piece: Int) throws {
        let stage = try FrameStage(engine)
        var raw: [UInt8] = []
        stage.connection.onLines { connection, line in
            stage.frames.append([UInt8](copying: line))
            connection.onMessages(lengthPrefix: .uint8, limit: 100) { connection, message in
                stage.frames.append([UInt8](copying: message))
                guard message.isEmpty else { return }
                connection.onData = { _, bytes in raw.append(copying: bytes) }
            }
        }
        let stream = Array("STARTTLS\r\n".utf8) + [3, 10, 20, 30, 0] + Array("raw\nbytes".utf8)
        for start in stride(from: 0, to: stream.count, by: piece) {
            try stage.receive(stream[start..<min(start + piece, stream.count)])
        }
        try stage.finish()
        #expect(stage.frames == [Array("STARTTLS".utf8), [10, 20, 30], []])
        #expect(raw == Array("raw\nbytes".utf8))
        #expect(stage.connection.bytesRead == UInt64(stream.count))
        #expect(stage.reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases)
    func `a framing set outside of a callback takes over what is unfinished`(engine: Engine) throws {
        let stage = try FrameStage(engine)
        stage.connection.onLines { _, _ in Issue.record("no line has ended") }
        try stage.receive([2, 7, 8, 1, 9][...])
        stage.connection.onMessages(lengthPrefix: .uint8, limit: 10) { _, message in
            stage.frames.append([UInt8](copying: message))
        }
        #expect(stage.frames.isEmpty)
        try stage.finish()
        #expect(stage.frames == [[7, 8], [9]])
    }

    /// What a parser does before it returns `.needMore`.
    enum Before: CaseIterable { case setsOnData, setsFraming, pauses, finishes }

    @Test(arguments: Engine.allCases, combined(Before.allCases, [1, 5]))
    func `a parser that gives way and asks for more has lost nothing`(
        engine: Engine, how: (before: Before, piece: Int)
    ) throws {
        let (before, piece) = how
        let stage = try FrameStage(engine)
        var calls = 0
        var raw: [UInt8] = []
        stage.connection.onFrames(limit: 100) { connection, reader throws(IOError) in
            calls += 1
            if calls > 1, before == .pauses { return reader.skip(5) ? .frame : .needMore }
            switch before {
            case .setsOnData: connection.onData = { _, bytes in raw.append(copying: bytes) }
            case .setsFraming: connection.onMessages(lengthPrefix: .uint8) { _, bytes in raw.append(copying: bytes) }
            case .pauses: connection.pause()
            case .finishes: connection.finish(within: .seconds(60))
            }
            return .needMore
        }
        let stream: [UInt8] = [4, 1, 2, 3, 4]
        for start in stride(from: 0, to: 5, by: piece) { try stage.receive(stream[start..<start + piece]) }
        try stage.turns(3)
        switch before {
        case .setsOnData: #expect(raw == stream)
        case .setsFraming: #expect(raw == [1, 2, 3, 4])
        case .pauses:
            #expect(calls == 1)
            stage.connection.resume()
            try stage.turns(5)
            #expect(calls > 1)
        case .finishes: #expect(calls == 1)
        }
        try stage.finish()
        #expect(stage.reason == (before == .finishes ? .localClose : .peerClosed))
    }

    /// A parser is given a cut frame 4 KiB at a time.
    @Test(arguments: Engine.allCases, Before.allCases)
    func `a parser that gives way has more bytes behind it than it was given`(engine: Engine, before: Before) throws {
        let stage = try FrameStage(engine)
        var calls = 0
        var raw: [UInt8] = []
        stage.connection.onFrames(limit: 100_000) { connection, reader throws(IOError) in
            calls += 1
            if calls == 1 || calls > 2 && before == .pauses { return .needMore }
            #expect(calls == 2, "it has given way")
            switch before {
            case .setsOnData: connection.onData = { _, bytes in raw.append(copying: bytes) }
            case .setsFraming: connection.onLines { _, line in raw += [UInt8](copying: line) + [10] }
            case .pauses: connection.pause()
            case .finishes: connection.finish(within: .seconds(60))
            }
            return .needMore
        }
        let begun = Array("ab\ncd".utf8)
        let rest = [UInt8](repeating: 65, count: 5_000) + [10] + [UInt8](repeating: 66, count: 5_000) + [10]
        try stage.receive(begun[...])
        try stage.receive(rest[...])
        try stage.turns(3)
        #expect(calls == 2)
        if before == .setsOnData || before == .setsFraming { #expect(raw == begun + rest) }
        if before == .pauses { stage.connection.resume() }
        stage.connection.onUnfinishedFrame = { _, bytes in stage.frames.append([UInt8](copying: bytes)) }
        try stage.finish()
        #expect(stage.frames == (before == .pauses ? [begun + rest] : []))
    }

    // MARK: Limits

    @Test(arguments: Engine.allCases, FrameForm.allCases)
    func `a frame of the limit is told, one byte more closes with EMSGSIZE`(engine: Engine, form: FrameForm) throws {
        for piece in [7, 1_000] { try expectLimit(engine, form, piece: piece) }
    }

    private func expectLimit(_ engine: Engine, _ form: FrameForm, piece: Int) throws {
        let stage = try FrameStage(engine)
        form.frame(stage.connection, limit: form.limit(of: 200)) { frame in
            stage.frames.append(frame)
            stage.connection.write("answer")
        }
        let stream = form.encode([UInt8](repeating: 65, count: 200)) + form.encode([UInt8](repeating: 66, count: 201))
        for start in stride(from: 0, to: stream.count, by: piece) where stage.reason == nil {
            try stage.receive(stream[start..<min(start + piece, stream.count)])
        }
        try stage.loop.run()
        #expect(stage.frames == [[UInt8](repeating: 65, count: 200)])
        // What was answered before is not lost.
        #expect(try stage.peer.receive(exactly: 6) == Array("answer".utf8))
        #expect(stage.reason?.errno == EMSGSIZE)
    }

    @Test(arguments: Engine.allCases)
    func `a length that never ends, and what a parser throws, close with that reason`(engine: Engine) throws {
        let endless = try FrameStage(engine)
        endless.connection.onMessages(lengthPrefix: .varint(maxByteCount: 4)) { _, _ in Issue.record("no message") }
        try endless.receive([UInt8](repeating: 0xFF, count: 5)[...])
        try endless.loop.run()
        #expect(endless.reason?.errno == EOVERFLOW)

        let thrown = try FrameStage(engine)
        thrown.connection.onFrames(limit: 10) { _, reader throws(IOError) in
            guard let kind = reader.integer(UInt8.self) else { return .needMore }
            guard kind < 2 else { throw IOError(call: "parse", errno: EPROTO, detail: "kind \(kind)") }
            thrown.frames.append([kind])
            return .frame
        }
        try thrown.receive([0, 1, 2, 0][...])
        try thrown.loop.run()
        #expect(thrown.frames == [[0], [1]])
        #expect(thrown.reason?.errno == EPROTO)
    }

    @Test(arguments: Engine.allCases)
    func `many frames of one read share the loop with others, and their answers share system calls`(
        engine: Engine
    ) throws {
        let stage = try FrameStage(engine)
        var perTurn: [Int] = [0]
        var isOver = false
        stage.connection.onLines { connection, line in
            perTurn[perTurn.count - 1] += 1
            connection.write("x")
        }
        let turns = TurnCounter(stage.loop)
        turns.onTurn = { _ in if !isOver { perTurn.append(0) } }
        let lines = 10_000
        let peer = stage.peer
        let answers = onThread { try peer.receive(exactly: lines) }
        try stage.peer.send([UInt8](repeating: 10, count: lines))
        while perTurn.reduce(0, +) < lines { try stage.loop.run(.once) }
        isOver = true
        turns.stop()
        #expect(perTurn.max() == 1_024)
        #expect(try answers.value(timeLimit: .seconds(10)).count == lines)
        try stage.finish()
    }

    // MARK: The end

    @Test(arguments: Engine.allCases, FrameForm.allCases)
    func `the end in the middle of a frame is told`(engine: Engine, form: FrameForm) throws {
        let begun = Array(form.encode([1, 2, 3, 4, 5]).dropLast())
        let silent = try FrameStage(engine)
        form.frame(silent.connection, limit: 300) { silent.frames.append($0) }
        try silent.receive(begun[...])
        try silent.finish()
        #expect(silent.frames.isEmpty && silent.reason?.errno == EBADMSG)

        let told = try FrameStage(engine)
        form.frame(told.connection, limit: 300) { _ in Issue.record("no frame is whole") }
        told.connection.onUnfinishedFrame = { _, bytes in told.frames.append([UInt8](copying: bytes)) }
        try told.receive(begun[...])
        try told.finish()
        #expect(told.frames == [begun] && told.reason == .peerClosed)
    }

    @Test(arguments: Engine.allCases, Stopping.allCases)
    func `who closes at an unfinished frame hears of no end`(engine: Engine, stopping: Stopping) throws {
        let stage = try FrameStage(engine)
        stage.connection.onLines { _, _ in Issue.record("no line is whole") }
        stage.connection.onEnd = { _ in Issue.record("onEnd came after the close") }
        stage.connection.onUnfinishedFrame = { connection, bytes in
            stage.frames.append([UInt8](copying: bytes))
            if stopping == .close { connection.close() } else { connection.reset() }
        }
        try stage.receive([65][...])
        try stage.finish()
        #expect(stage.frames == [[65]])
        #expect(stage.reason == (stopping == .close ? .localClose : .localReset))
    }

    @Test(arguments: Engine.allCases)
    func `lines are bytes: NUL and invalid UTF-8 are in them, and each delimiter ends its own`(engine: Engine) throws {
        let odd: [UInt8] = [0, 0xFF, 0xC3, 0x28]
        let cases: [(LineDelimiter, [UInt8], [[UInt8]])] = [
            (.newline, odd + [13, 10, 13, 13, 10, 10], [odd, [13], []]),
            (.crlf, odd + [10, 13, 65, 13, 10, 13, 10], [odd + [10, 13, 65], []]),
            (.byte(7), odd + [10, 7, 7], [odd + [10], []]),
        ]
        for (delimiter, stream, lines) in cases {
            for piece in 1...stream.count {
                let stage = try FrameStage(engine)
                stage.connection.onLines(delimiter: delimiter) { _, line in
                    stage.frames.append([UInt8](copying: line))
                }
                for start in stride(from: 0, to: stream.count, by: piece) {
                    try stage.receive(stream[start..<min(start + piece, stream.count)])
                }
                try stage.finish()
                #expect(stage.frames == lines, "\(delimiter), pieces of \(piece)")
            }
        }
    }
}
