public import CallbackModel

/// What a scripted connection does: how it answers what it receives, and what it does when.
public struct Script: Hashable, Sendable {
    /// What becomes of received bytes.
    public enum Response: Hashable, Sendable {
        /// They are read and dropped.
        case nothing
        /// They are sent back; while the queue is full nothing is read.
        case echo
        /// They are sent back, however long the queue becomes.
        case echoWithoutPausing
        /// The first byte of each `of` bytes is sent back: by position in the stream, not by chunk.
        case part(of: Int)
    }

    /// What becomes of received bytes.
    public var response: Response
    /// What happens when; several for one trigger happen in their order.
    public var reactions: [Reaction]
    /// How received bytes are cut into frames; `nil` for `onData`. To everything else a frame is its bytes, those of
    /// its delimiter or its length among them.
    public var framing: Framing?

    /// A connection that answers with `response` and reacts as `reactions` say.
    public init(_ response: Response = .nothing, _ reactions: [Reaction] = [], framing: Framing? = nil) {
        self.response = response
        self.reactions = reactions
        self.framing = framing
    }

    /// A way to cut.
    public enum Framing: Hashable, Sendable {
        /// By line feeds. A line has at most `limit` bytes.
        case lines(limit: Int)
        /// By a length of two bytes. A message has at most `limit` bytes behind it.
        case messages(limit: Int)
    }

    /// One thing that happens, and what is done then.
    public struct Reaction: Hashable, Sendable {
        /// When.
        public var trigger: Trigger
        /// What, in this order.
        public var actions: [Action]

        /// Does `actions` at `trigger`.
        public static func on(_ trigger: Trigger, _ actions: Action...) -> Reaction {
            Reaction(trigger: trigger, actions: actions)
        }

        /// The same with an array.
        public init(trigger: Trigger, actions: [Action]) {
            self.trigger = trigger
            self.actions = actions
        }
    }

    /// When a reaction happens: in a callback of its connection.
    public enum Trigger: Hashable, Sendable {
        /// In the callback for a new connection; for a client, right after the call that begins it.
        case start
        /// In `onOpen`.
        case open
        /// In the `onData` with which this many bytes in all have arrived. Once.
        case received(Int)
        /// In `onEnd`.
        case end
        /// In the first `onDrain`.
        case drain
        /// In each `onTimeout`.
        case timeout
        /// In `onClose`.
        case close
        /// In the completion of the write with this number, from 0, of those that have one.
        case completion(Int)
    }

    /// What is done.
    public indirect enum Action: Hashable, Sendable {
        /// Writes bytes.
        case write(Payload)
        /// Writes bytes with a completion.
        case writeCompleting(Payload)
        /// Writes bytes again and again, this many times.
        case writeEach(Payload, times: Int)
        /// Writes several pieces in one call.
        case writePieces([Payload])
        /// `pause()`.
        case pause
        /// `resume()`.
        case resume
        /// `end()`.
        case end
        /// `finish(within:)`, with a limit in milliseconds.
        case finish(milliseconds: Int)
        /// `close()`.
        case close
        /// `reset()`.
        case reset
        /// Closes the listener.
        case closeListener
        /// Pauses the listener.
        case pauseListener
        /// Resumes the listener.
        case resumeListener
        /// Drains the listener within this time; the report becomes a note.
        case drainListener(milliseconds: Int)
        /// Starts a timer with this number; when it fires, `actions` are done to this connection.
        case startTimer(Int, milliseconds: Int, [Action])
        /// Cancels a timer.
        case cancelTimer(Int)
        /// Arms a timer anew.
        case rearmTimer(Int, milliseconds: Int)
        /// Does actions to another connection, by its number from 0.
        case other(Int, [Action])
        /// Pipes the connection to the one with this number; only at ``Trigger/start``.
        case pipe(to: Int)
        /// Lets go of the script's own reference to the connection.
        case letGo
        /// Sets a time-out.
        case setTimeout(TimeoutKind, milliseconds: Int?)
        /// In `onTimeout`: the connection is kept.
        case keep
        /// Takes this long, as a callback that computes does. Peers learn before it how far the connection has come.
        case stall(milliseconds: Int)
        /// Waits inside the callback until the kernel has input for the connection with this number.
        case awaitInput(of: Int)
        /// Waits inside the callback until the kernel has room for what the connection with this number writes.
        case awaitRoom(of: Int)
        /// Writes a line into the transcript.
        case note(String)
    }
}

extension Script {
    /// All that it does, at whatever time and to whichever connection.
    package var allActions: [Action] { reactions.flatMap { Self.flat($0.actions) } }

    private static func flat(_ actions: [Action]) -> [Action] {
        actions.flatMap { action in
            switch action {
            case .startTimer(_, _, let inner), .other(_, let inner): [action] + flat(inner)
            default: [action]
            }
        }
    }
}

extension Scenario {
    /// The scripts of its connections, by the numbers of their peers; `nil` if something else is under test.
    package var scripts: [Script]? {
        switch handler {
        case .script(let script): peers.map { _ in script }
        case .scripts(let scripts), .clients(let scripts): scripts
        case .closure, .program: nil
        }
    }
}
