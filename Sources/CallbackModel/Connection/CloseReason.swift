/// Why a connection closed: the first cause.
///
/// If a reset, a failure, a time-out or a limit cut a proper end short, that is the reason.
///
/// How many bytes went each way, how many were never sent and how long the connection lasted can still be read
/// from the connection inside `onClose`.
public enum CloseReason: Hashable, Sendable {
    /// This side closed: ``Connection/close()``; or ``Connection/end()`` or ``Connection/finish(within:)``, and the
    /// peer had not ended before.
    case localClose
    /// This side called ``Connection/reset()``.
    case localReset
    /// The peer's FIN came first, and this side has finished too.
    case peerClosed
    /// The peer reset the connection: ECONNRESET, or EPIPE on a write (tcp(7)).
    case peerReset
    /// The peer's FIN came, and the end that its TLS has to send before was missing (RFC 8446, section 6.1). Something
    /// may be missing behind what was received.
    case truncated
    /// A time-out passed, and `onTimeout` did not keep the connection.
    case timedOut(TimeoutKind)
    /// More was queued than ``Connection/Options/maxQueuedBytes``; or more than ``EventLoop/Options/maxQueuedBytes``,
    /// and most of it by this connection; or the loop was overloaded and this queue did not move for 10 seconds.
    case shed
    /// The deadline of ``Listener/drain(within:forcing:_:)`` came first.
    case drainDeadline
    /// A system call failed for another reason than the peer's reset.
    // Indirect: each connection has room for its reason, and would have it for an error, eight times as large.
    indirect case failed(IOError)
}

/// What a connection waited for too long. The times are in ``Connection/Timeouts``.
public enum TimeoutKind: String, Hashable, Sendable, CaseIterable {
    /// Neither side sent anything.
    case idle
    /// Nothing came from the peer while the connection was reading.
    case read
    /// Queued bytes did not move.
    case write
    /// Too much was queued for too long.
    case saturated
    /// The peer was slower than it has to be.
    case minimumRate
    /// The connection did not open.
    case connect
    /// What was queued at ``Connection/close()`` could not be sent, or the peer did not take what was sent before
    /// ``Connection/finish(within:)``.
    case close
}

/// What ``Connection/onTimeout`` wants done.
public enum TimeoutAction: Sendable {
    /// Close the connection, with ``CloseReason/timedOut(_:)``: with FIN if all was sent and acknowledged, else with a
    /// reset. All was not sent if bytes are queued, or if the connection is the target of a pipe whose source has not
    /// ended.
    case close
    /// Reset it, with the same reason, also if nothing is known to be owed. For an answer whose rest was still to be
    /// written.
    case reset
    /// Keep it; the same time-out counts anew from now.
    case keep
}
