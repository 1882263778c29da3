/// The other side of one connection: a blocking socket on a thread of its own, and what is done with it.
public struct Peer: Hashable, Sendable {
    /// What is done, in order. Afterwards the socket is closed.
    public var steps: [Step]
    /// SO_RCVBUF in bytes, set before connecting; nothing for the kernel's choice.
    public var receiveBuffer: Int?
    /// SO_SNDBUF in bytes, set before connecting; nothing for the kernel's choice.
    public var sendBuffer: Int?
    /// How it meets a connection that the side under test begins.
    public var reception: Reception

    /// A peer that does `steps`.
    public init(
        _ steps: Step..., receiveBuffer: Int? = nil, sendBuffer: Int? = nil, reception: Reception = .accepts
    ) {
        self.init(steps: steps, receiveBuffer: receiveBuffer, sendBuffer: sendBuffer, reception: reception)
    }

    /// The same with an array.
    public init(
        steps: [Step], receiveBuffer: Int? = nil, sendBuffer: Int? = nil, reception: Reception = .accepts
    ) {
        self.steps = steps
        self.receiveBuffer = receiveBuffer
        self.sendBuffer = sendBuffer
        self.reception = reception
    }

    /// How a peer meets a connection that the side under test begins.
    public enum Reception: Hashable, Sendable {
        /// It listens and accepts one.
        case accepts
        /// Its port is bound and nobody listens: ECONNREFUSED (connect(2)).
        case refuses
        /// Its backlog is full: SYN is dropped and nothing is answered (listen(2)).
        case isSilent
    }

    /// What a peer does.
    public enum Step: Hashable, Sendable {
        /// Connects. A peer without this step connects at its beginning.
        case connect
        /// Sends all of it.
        case send(Payload)
        /// Sends pieces of so many bytes, each once the side under test has received the one before.
        case drip(Payload, by: Int)
        /// Sends it again and again until the connection with this number has come so far.
        case flood(Payload, until: Int, Milestone)
        /// Sends one byte of urgent data (MSG_OOB, send(2)).
        case sendUrgent(UInt8)
        /// Sends all of it and receives exactly so many bytes at the same time.
        case exchange(Payload, receiving: Int)
        /// Receives exactly so many bytes.
        case read(Int)
        /// Receives until FIN or RST.
        case readToEnd
        /// Sends back all that it receives until FIN, then sends FIN.
        case echoToEnd
        /// Sends FIN (shutdown(2)).
        case halfClose
        /// Takes no more bytes (shutdown(2), SHUT_RD); what is sent to a Unix socket is then refused.
        case stopReading
        /// Closes with RST (SO_LINGER with zero, socket(7)).
        case reset
        /// Closes.
        case close
        /// Waits until its own connection has come so far.
        case wait(Milestone)
        /// Waits until the connection with this number has come so far.
        case waitFor(Int, Milestone)
    }

    /// How far a connection has come on the side under test.
    public enum Milestone: Hashable, Sendable {
        /// The callback for the new connection, or `onOpen`, has returned.
        case opened
        /// So many bytes were given to `onData`.
        case received(Int)
        /// `onEnd` has run.
        case ended
        /// `onDrain` has run.
        case drained
        /// `onTimeout` has run so many times.
        case timedOut(Int)
        /// `onClose` has run.
        case closed
        /// The peer of that connection has a connection, perhaps in the backlog.
        case connected
        /// The peer of that connection is through.
        case left
    }
}
