internal import CallbackModel
internal import ParityKit

/// What tasks cannot play.
enum AsyncObstacle {
    /// Why tasks cannot play `scenario`; `nil` if they can.
    static func of(_ scenario: Scenario) -> String? {
        switch scenario.handler {
        case .closure: return "it is a handler with callbacks"
        case .program: return "it is a program with callbacks"
        case .script, .scripts, .clients: break
        }
        if scenario.expected.contains(where: { $0.isDrained == true }) { return "no task is told of a drained queue" }
        if scenario.expected.contains(where: { $0.timeouts?.isEmpty == false }) {
            return "no task is told of a time-out"
        }
        if scenario.expected.contains(where: { $0.closing == .timedOut(.close) }) {
            return "a task that waits for room does not come to what follows"
        }
        for (number, script) in (scenario.scripts ?? []).enumerated() {
            if let obstacle = obstacle(to: script, number, scenario) { return obstacle }
        }
        return nil
    }

    private static func obstacle(to script: Script, _ number: Int, _ scenario: Scenario) -> String? {
        if script.framing != nil { return "frames come in callbacks" }
        for reaction in script.reactions {
            if let obstacle = obstacle(to: reaction.trigger, number, scenario) { return obstacle }
        }
        return script.allActions.lazy.compactMap { obstacle(to: $0) }.first
    }

    private static func obstacle(to trigger: Script.Trigger, _ number: Int, _ scenario: Scenario) -> String? {
        let isClient = if case .clients = scenario.handler { true } else { false }
        switch trigger {
        case .start: return isClient ? "no task has a connection that is not open yet" : nil
        case .close:
            let isMet = scenario.peers.indices.contains(number) && scenario.peers[number].reception == .accepts
            return isClient && !isMet ? "no task has a connection that does not open" : nil
        case .end:
            let isHalfOpen = scenario.options.connection.allowsHalfOpen
            return isHalfOpen ? nil : "when a task learns of the peer's end, this side has ended too"
        case .drain: return "no task is told of a drained queue"
        case .timeout: return "no task is told of a time-out"
        case .completion: return "no task is told that its bytes were sent"
        case .open, .received: return nil
        }
    }

    private static func obstacle(to action: Script.Action) -> String? {
        switch action {
        case .write, .writeEach, .writePieces, .end, .finish, .close, .reset, .note: nil
        case .writeCompleting: "no task is told that its bytes were sent"
        case .pause, .resume: "the sequence of bytes pauses and resumes"
        case .closeListener, .pauseListener, .resumeListener, .drainListener: "a connection acts on the listener"
        case .startTimer, .cancelTimer, .rearmTimer: "timers have callbacks"
        case .other, .pipe: "a connection acts on another one, whose task may be in the middle of something"
        case .letGo: "a task holds its connection"
        case .setTimeout, .keep: "no task is told of a time-out"
        case .stall, .awaitInput, .awaitRoom: "a callback waits"
        }
    }
}
