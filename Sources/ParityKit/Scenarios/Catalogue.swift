extension Scenario {
    /// All scenarios of the kit, by topic.
    public static var all: [Scenario] {
        [echoing].flatMap { $0 }
    }
}
