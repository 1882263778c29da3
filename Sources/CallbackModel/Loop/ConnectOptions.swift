extension EventLoop {
    /// How ``connect(to:options:)`` and ``connect(host:port:options:)`` go about it.
    public struct ConnectOptions: Sendable {
        /// What the connection starts with; its ``Connection/Timeouts/connect`` bounds the whole way to `onOpen`.
        public var connection = Connection.Options()

        /// This end's address (bind(2)); `nil` to let the kernel choose. The file of a Unix socket's path is removed
        /// when the connection closes. With a host name, only addresses of its family are tried.
        public var localAddress: SocketAddress? = nil

        /// How long one address of a host has a head start on the next: RFC 8305, section 5, recommends 250 ms and
        /// allows 10 ms to 2 s.
        public var attemptDelay: Duration = .milliseconds(250)

        /// The defaults above.
        public init() {}

        func validate() throws(IOError) {
            guard (.milliseconds(10) ... .seconds(2)).contains(attemptDelay) else {
                throw .invalid("connect", "attemptDelay \(attemptDelay) is not between 10 ms and 2 s")
            }
            try connection.validate()
        }
    }
}
