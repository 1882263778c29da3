extension Scenario {
    /// All scenarios of the kit, by topic.
    public static var all: [Scenario] {
        [
            echoing, ending, resetting, writing, connecting, accepting, binding, polling, timing, looping, signalling,
            framing,
        ].flatMap { $0 }
    }
}
