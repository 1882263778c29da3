public import ArgumentParser
public import CallbackServer

/// Every bound of the server; that of a request's size is in `Request`.
private enum Limits {
    /// Clients at a time; more wait in the kernel.
    static let clients = 10_000
    /// How long a connection is kept without a request.
    static let idle = Duration.seconds(15)
    /// How long answers may wait for a client that reads nothing.
    static let unread = Duration.seconds(15)
}

/// What a command line may say of the server's bounds.
public struct HTTPOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How long a request may take to arrive, all of it.", valueName: "seconds"))
    var requestTimeout = 5.0

    /// What the command line leaves out.
    public init() {}

    /// Refuses a time that cannot be one.
    public func validate() throws {
        guard (0.1...60).contains(requestTimeout) else {
            throw ValidationError("--request-timeout \(requestTimeout) is not between 0.1 and 60 seconds")
        }
    }

    /// For the listener.
    public var listening: Listener.Options {
        var listening = Listener.Options()
        listening.maxConnections = Limits.clients
        listening.connection.timeouts.idle = Limits.idle
        listening.connection.timeouts.write = Limits.unread
        return listening
    }
}
