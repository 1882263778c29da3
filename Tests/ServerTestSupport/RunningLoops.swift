public import CallbackServer
public import Testing

extension EventLoop {
    /// Runs until `condition` holds, looking every 2 ms; a condition that does not come to hold is a failure.
    public func run(
        until condition: @escaping () -> Bool, timeLimit: Duration = .seconds(60),
        sourceLocation: SourceLocation = #_sourceLocation, whenLate facts: @autoclosure () -> String = ""
    ) throws {
        let end = ContinuousClock.now + timeLimit
        var isLate = false
        let look = schedule(after: .zero, repeating: .milliseconds(2)) { _ in
            isLate = ContinuousClock.now > end
            if isLate || condition() { self.stop() }
        }
        defer { look.cancel() }
        try run()
        if isLate {
            Issue.record("the time limit of \(timeLimit) has passed; \(facts())", sourceLocation: sourceLocation)
        }
    }
}

/// So that an exit test, which runs in a process of its own, can be handed the engine.
extension Engine: Codable {}
