/// What the server has counted: the one thing that server and clients agree on, as JSON on the control socket.
struct ServerCounts: Codable {
    /// Clients whose connection reached the handler.
    var accepted = 0
    /// Of those, how many `onClose` has not run for.
    var open = 0
    /// How often `onClose` ran, by cause.
    var closed: [String: Int] = [:]
    /// Bytes of closed connections.
    var bytesIn: UInt64 = 0
    var bytesOut: UInt64 = 0
    /// Clients turned away, by cause.
    var shed: [String: Int] = [:]
    /// What the loop told of overload.
    var overload: [String] = []
    /// Failures to accept, other than by limits.
    var acceptErrors = 0

    var closedInAll: Int { closed.values.reduce(0, +) }
    var shedInAll: Int { shed.values.reduce(0, +) }
}
