/// A way to load the server.
struct Run: Sendable {
    let name: String
    /// One line for the help.
    let summary: String
    /// Loads the server, and tells the trial what it found.
    let load: @Sendable (Trial) throws -> Void

    static let all: [Run] = [
        .connections, .idle, .resets, .drip, .neverReading, .slowReaders, .overload, .descriptors, .termination, .soak,
    ]
}
