public import CallbackModel

/// What a run came to, without what may differ between two good runs.
public struct Transcript: Hashable, Sendable {
    /// One entry a connection, in the order of the peers.
    public var connections: [Line.Group] = []
    /// What the handler noted, in order.
    public var notes: [String] = []

    /// One thing that is compared.
    public struct Line: Hashable, Sendable {
        /// What it is about.
        public let field: String
        /// What it was.
        public let value: String

        /// The lines about one connection.
        public typealias Group = [Line]
    }

    /// How the stream ended for the peer.
    public enum Ending: String, Hashable, Sendable {
        /// FIN, after all bytes.
        case end
        /// FIN, without the end that the layer above it has of its own, such as TLS's close_notify.
        case truncated
        /// RST, or a failed send.
        case reset
        /// It did not look, or left before.
        case unseen
        /// Its connection was refused.
        case refused
    }

    /// Why a connection closed.
    public enum Closing: Hashable, Sendable, CustomStringConvertible {
        /// `CloseReason.localClose`.
        case localClose
        /// `CloseReason.localReset`.
        case localReset
        /// `CloseReason.peerClosed`.
        case peerClosed
        /// `CloseReason.peerReset`, by whichever errno it was met.
        case peerReset
        /// `CloseReason.truncated`.
        case truncated
        /// `CloseReason.timedOut`.
        case timedOut(TimeoutKind)
        /// `CloseReason.shed`.
        case shed
        /// `CloseReason.drainDeadline`.
        case drainDeadline
        /// `CloseReason.failed`, with the name of the errno.
        case failed(String)
        /// `onClose` never ran.
        case never

        /// As it stands in a transcript.
        public var description: String {
            switch self {
            case .localClose: "localClose"
            case .localReset: "localReset"
            case .peerClosed: "peerClosed"
            case .peerReset: "peerReset"
            case .truncated: "truncated"
            case .timedOut(let kind): "timedOut(\(kind.rawValue))"
            case .shed: "shed"
            case .drainDeadline: "drainDeadline"
            case .failed(let name): "failed(\(name))"
            case .never: "never"
            }
        }
    }

    /// All lines, with headings, as they are printed.
    public var text: [String] {
        var lines: [String] = []
        for (index, group) in connections.enumerated() {
            lines.append("connection \(index)")
            lines += group.map { "  \($0.field): \(String(escaping: $0.value))" }
        }
        for note in notes { lines.append("note: \(String(escaping: note))") }
        return lines
    }
}
