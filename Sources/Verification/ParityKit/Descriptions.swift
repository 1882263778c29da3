internal import CallbackModel

// Steps, triggers and actions print as they are written in Swift, so that a scenario can be pasted.

extension Peer.Step: CustomStringConvertible {
    /// As it is written in Swift.
    public var description: String {
        switch self {
        case .connect: ".connect"
        case .send(let payload): ".send(\(payload))"
        case .drip(let payload, let size): ".drip(\(payload), by: \(size))"
        case .flood(let payload, let number, let milestone): ".flood(\(payload), until: \(number), \(milestone))"
        case .sendUrgent(let byte): ".sendUrgent(\(byte))"
        case .exchange(let payload, let count): ".exchange(\(payload), receiving: \(count))"
        case .read(let count): ".read(\(count))"
        case .readToEnd: ".readToEnd"
        case .echoToEnd: ".echoToEnd"
        case .halfClose: ".halfClose"
        case .stopReading: ".stopReading"
        case .reset: ".reset"
        case .close: ".close"
        case .wait(let milestone): ".wait(\(milestone))"
        case .waitFor(let number, let milestone): ".waitFor(\(number), \(milestone))"
        }
    }
}

extension Peer.Milestone: CustomStringConvertible {
    /// As it is written in Swift.
    public var description: String {
        switch self {
        case .opened: ".opened"
        case .received(let count): ".received(\(count))"
        case .ended: ".ended"
        case .drained: ".drained"
        case .timedOut(let count): ".timedOut(\(count))"
        case .closed: ".closed"
        case .connected: ".connected"
        case .left: ".left"
        }
    }
}

extension Script.Trigger: CustomStringConvertible {
    /// As it is written in Swift.
    public var description: String {
        switch self {
        case .start: ".start"
        case .open: ".open"
        case .received(let count): ".received(\(count))"
        case .end: ".end"
        case .drain: ".drain"
        case .timeout: ".timeout"
        case .close: ".close"
        case .completion(let number): ".completion(\(number))"
        }
    }
}

extension Script.Action: CustomStringConvertible {
    /// As it is written in Swift.
    public var description: String {
        switch self {
        case .write(let payload): ".write(\(payload))"
        case .writeCompleting(let payload): ".writeCompleting(\(payload))"
        case .writeEach(let payload, let times): ".writeEach(\(payload), times: \(times))"
        case .writePieces(let pieces): ".writePieces([\(pieces.map { "\($0)" }.joined(separator: ", "))])"
        case .pipe(let number): ".pipe(to: \(number))"
        case .pause: ".pause"
        case .resume: ".resume"
        case .end: ".end"
        case .finish(let milliseconds): ".finish(milliseconds: \(milliseconds))"
        case .close: ".close"
        case .reset: ".reset"
        case .closeListener: ".closeListener"
        case .pauseListener: ".pauseListener"
        case .resumeListener: ".resumeListener"
        case .drainListener(let milliseconds): ".drainListener(milliseconds: \(milliseconds))"
        case .startTimer(let number, let milliseconds, let actions):
            ".startTimer(\(number), milliseconds: \(milliseconds), \(list(actions)))"
        case .cancelTimer(let number): ".cancelTimer(\(number))"
        case .rearmTimer(let number, let milliseconds): ".rearmTimer(\(number), milliseconds: \(milliseconds))"
        case .other(let number, let actions): ".other(\(number), \(list(actions)))"
        case .letGo: ".letGo"
        case .setTimeout(let kind, let milliseconds):
            ".setTimeout(.\(kind.rawValue), milliseconds: \(milliseconds.map { "\($0)" } ?? "nil"))"
        case .keep: ".keep"
        case .stall(let milliseconds): ".stall(milliseconds: \(milliseconds))"
        case .awaitInput(let number): ".awaitInput(of: \(number))"
        case .awaitRoom(let number): ".awaitRoom(of: \(number))"
        case .note(let text): ".note(\(text.debugDescription))"
        }
    }

    private func list(_ actions: [Script.Action]) -> String {
        "[\(actions.map { "\($0)" }.joined(separator: ", "))]"
    }
}
