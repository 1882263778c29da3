extension Listener {
    /// What a listener is made with; every number is checked by ``EventLoop/listen(on:options:onConnection:)``.
    public struct Options: Sendable {
        /// How many clients the kernel keeps waiting, from 1; it caps the number at `somaxconn` (listen(2)).
        public var backlog = 511
        /// At most this many connections at a time, from 1; `nil` for no limit.
        public var maxConnections: Int? = nil
        /// What happens to clients beyond ``maxConnections``.
        public var beyondMaxConnections = BeyondMaxConnections.wait
        /// Binds an address on which closed connections still linger in TIME_WAIT (SO_REUSEADDR, socket(7)).
        public var reuseAddress = true
        /// Lets several listeners of one user share a port, the kernel spreading the clients (SO_REUSEPORT).
        public var reusePort = false
        /// An IPv6 listener takes IPv6 clients only, not IPv4 ones as `::ffff:a.b.c.d` (IPV6_V6ONLY, ipv6(7)).
        public var ipv6Only = false
        /// At most this many clients are accepted before other events have their turn, from 1 to 1,024.
        public var acceptsPerWakeup = 16
        /// The file mode of a Unix socket, such as `0o600`; `nil` for what the umask leaves (unix(7)).
        public var unixMode: UInt32? = nil
        /// Removes the socket file when the listener closes, and one that no live server owns before it binds.
        public var unixCleanUp = true
        /// What each accepted connection starts with.
        public var connection = Connection.Options()

        /// The defaults above.
        public init() {}

        /// What happens to clients beyond the limit.
        public enum BeyondMaxConnections: Hashable, Sendable {
            /// They wait in the kernel's backlog until a connection closes.
            case wait
            /// They are accepted and closed at once, and counted in ``Listener/onShed``.
            case refuse
        }

        func validate() throws(IOError) {
            guard (1...Int(Int32.max)).contains(backlog) else {
                throw .invalid("listen", "backlog \(backlog) is not between 1 and \(Int32.max)")
            }
            guard (1...1_024).contains(acceptsPerWakeup) else {
                throw .invalid("accept", "acceptsPerWakeup \(acceptsPerWakeup) is not between 1 and 1024")
            }
            if let maxConnections, maxConnections < 1 {
                throw .invalid("listen", "maxConnections \(maxConnections) is less than 1")
            }
            if let unixMode, unixMode > 0o777 {
                throw .invalid("chmod", "mode \(String(unixMode, radix: 8)) is more than 777")
            }
            try connection.validate()
        }
    }
}
