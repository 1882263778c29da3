public import CallbackModel

/// One situation, written down: a handler, the peers that meet it, and what every engine has to make of it.
public struct Scenario: Sendable {
    /// Unique; where libuv's suite has the same situation, its test's name.
    public var name: String
    /// Where the expectation is from: a manual page, an RFC, a page of libuv's documentation.
    public var source: String
    /// The clauses of the contract that it is about.
    public var clauses: [Int]
    /// Where the side under test listens, or what it connects over.
    public var endpoint: Endpoint
    /// What its listener and connections are made with.
    public var options: Listener.Options
    /// The handler under test.
    public var handler: Handler
    /// The peers, one a connection.
    public var peers: [Peer]
    /// What each connection has to come to, by the number of its peer; empty if only the engines are compared.
    public var expected: [Expectation]
    /// The notes that have to be made, in order; nothing if only the engines are compared.
    public var expectedNotes: [String]?
    /// What no run takes unless something hangs.
    public var timeLimit: Duration = .seconds(10)

    /// A scenario for a handler of the kit's or of the user's own.
    public init(
        _ name: String, source: String, clauses: [Int] = [], on endpoint: Endpoint = .ipv4,
        options: Listener.Options = .init(), handler: Handler, peers: [Peer] = [], expected: [Expectation] = [],
        notes: [String]? = []
    ) {
        self.name = name
        self.source = source
        self.clauses = clauses
        self.endpoint = endpoint
        self.options = options
        self.handler = handler
        self.peers = peers
        self.expected = expected
        expectedNotes = notes
    }

    /// What is under test.
    public enum Handler: Sendable {
        /// A listener, all connections of which play one script.
        case script(Script)
        /// A listener, the connections of which play one script each, by the number of the peer.
        case scripts([Script])
        /// A client for each peer, each with its script.
        case clients([Script])
        /// The user's own: called with the loop, it gives what `listen` is to call for each connection.
        case closure(@Sendable (EventLoop) -> (Connection) -> Void)
        /// Anything that a loop can do; what it notes is compared, line by line.
        case program(@Sendable (Stage) throws(IOError) -> Void)
    }

    /// Which kind of socket.
    public enum Endpoint: String, Hashable, Sendable, CaseIterable {
        /// 127.0.0.1, with a port that the kernel chooses.
        case ipv4
        /// ::1, with a port that the kernel chooses.
        case ipv6
        /// A Unix socket in a file of its own.
        case unix
    }
}

extension Scenario {
    /// What one connection has to come to. Nothing in a field means that the kernel's timing decides.
    public struct Expectation: Hashable, Sendable {
        /// Bytes that have to come.
        public enum Bytes: Hashable, Sendable {
            /// Just these.
            case exactly(Payload)
            /// These up to some place that the kernel's timing decides.
            case prefix(of: Payload)
            /// Any.
            case undetermined
        }

        /// Whether it was accepted, or opened as a client; if not, the peer was never met.
        public var isOpened: Bool? = true
        /// What `onData` got.
        public var received: Bytes = .exactly(.nothing)
        /// Whether `onEnd` ran.
        public var isEnded: Bool? = false
        /// How many completions told that their bytes were sent.
        public var completions: Int? = 0
        /// How many completions told a failure.
        public var failures: Int? = 0
        /// Whether `onDrain` ran.
        public var isDrained: Bool? = false
        /// Which time-outs passed.
        public var timeouts: [TimeoutKind]? = []
        /// Why it closed.
        public var closing: Transcript.Closing?
        /// What the peer got.
        public var peerReceived: Bytes = .exactly(.nothing)
        /// How the stream ended for the peer.
        public var peerEnding: Transcript.Ending?

        /// A connection that closes for `closing`; the fields can be changed with ``with(_:)``.
        public init(
            received: Bytes = .exactly(.nothing), ended: Bool? = false, closing: Transcript.Closing?,
            peer: Bytes = .exactly(.nothing), _ peerEnding: Transcript.Ending?
        ) {
            self.received = received
            isEnded = ended
            self.closing = closing
            peerReceived = peer
            self.peerEnding = peerEnding
        }

        /// A copy with changes.
        public func with(_ change: (inout Expectation) -> Void) -> Expectation {
            var copy = self
            change(&copy)
            return copy
        }
    }
}
