public import CallbackModel

/// How a participant plays a scenario. What comes of the scenario may not change by it.
public struct Form: Sendable {
    /// Its name in tables and reports.
    public let name: String
    let kind: Kind
    /// What lies between the scenario and its sockets.
    package let transport: Transport
    private let obstacle: @Sendable (Scenario) -> String?

    enum Kind: Sendable {
        /// On one loop, set up by `begin`. With `beginsTasks`, each callback begins a task.
        case loop(beginsTasks: Bool, begin: @Sendable (Stage) throws(IOError) -> Void)
        case group(EventLoop.Group.Distribution)
    }

    private init(
        _ name: String, _ kind: Kind, over transport: Transport = .plain,
        obstacle: @escaping @Sendable (Scenario) -> String? = { _ in nil }
    ) {
        self.name = name
        self.kind = kind
        self.transport = transport
        self.obstacle = obstacle
    }

    /// One loop, whose handler `begin` sets up in another way than with callbacks. `obstacle` returns why a scenario
    /// cannot be played so.
    package init(
        _ name: String, obstacle: @escaping @Sendable (Scenario) -> String?,
        begin: @escaping @Sendable (Stage) throws(IOError) -> Void
    ) {
        self.init(name, .loop(beginsTasks: false, begin: begin), obstacle: obstacle)
    }

    /// One loop and callbacks, over `transport`. `obstacle` returns why a scenario cannot be played so.
    package init(
        _ name: String, over transport: Transport, obstacle: @escaping @Sendable (Scenario) -> String?
    ) {
        self.init(name, .loop(beginsTasks: false, begin: Self.begin), over: transport, obstacle: obstacle)
    }

    private static let begin: @Sendable (Stage) throws(IOError) -> Void = { stage throws(IOError) in
        try stage.begin()
    }

    /// One loop and callbacks.
    public static let callbacks = Form("callbacks", .loop(beginsTasks: false, begin: begin))

    /// One loop and callbacks. Each callback of a connection begins a task of it, which waits once.
    public static let tasks = Form("tasks", .loop(beginsTasks: true, begin: begin))

    /// A group of two loops and callbacks, the clients spread by `distribution`.
    public static func group(_ distribution: EventLoop.Group.Distribution) -> Form {
        Form(distribution.rawValue, .group(distribution)) {
            GroupRun.obstacle(to: $0, spread: distribution)
        }
    }

    /// Why `scenario` cannot be played in this form; `nil` if it can.
    public func obstacle(to scenario: Scenario) -> String? { obstacle(scenario) }
}
