// What is told, as it is printed: in words of the API, without the names of modules, also inside of other values.

extension CloseReason: CustomStringConvertible {
    /// `peerClosed`, `timedOut(idle)`, `failed(connect 127.0.0.1:80: ECONNREFUSED (connection refused))`.
    public var description: String {
        switch self {
        case .localClose: "localClose"
        case .localReset: "localReset"
        case .peerClosed: "peerClosed"
        case .peerReset: "peerReset"
        case .truncated: "truncated"
        case .timedOut(let kind): "timedOut(\(kind))"
        case .shed: "shed"
        case .drainDeadline: "drainDeadline"
        case .failed(let error): "failed(\(error))"
        }
    }
}

extension TimeoutKind: CustomStringConvertible {
    /// `idle`, `read`, …
    public var description: String { rawValue }
}

extension WriteStatus: CustomStringConvertible {
    /// `flowing`, `saturated` or `closed`.
    public var description: String {
        switch self {
        case .flowing: "flowing"
        case .saturated: "saturated"
        case .closed: "closed"
        }
    }
}

extension WriteResult: CustomStringConvertible {
    /// `sent`, or `failed(peerReset)` with the reason.
    public var description: String {
        switch self {
        case .sent: "sent"
        case .failed(let reason): "failed(\(reason))"
        }
    }
}

extension DrainReport: CustomStringConvertible {
    /// `3 finished, 1 forced, 0 broken (1 drainDeadline, 3 peerClosed)`, and `, 2 unanswered` if there are any.
    public var description: String {
        let counts = reasons.map { "\($0.value) \($0.key)" }.sorted()
        let causes = counts.isEmpty ? "" : " (\(counts.joined(separator: ", ")))"
        let rest = unanswered == 0 ? "" : ", \(unanswered) unanswered"
        return "\(finished) finished, \(forced) forced, \(broken) broken\(causes)\(rest)"
    }
}

extension Listener.Shed: CustomStringConvertible {
    /// `12 turned away: maxConnections`.
    public var description: String { "\(count) turned away: \(cause)" }
}

extension Listener.Shed.Cause: CustomStringConvertible {
    /// `descriptorLimit`, `maxConnections`, …
    public var description: String {
        switch self {
        case .descriptorLimit: "descriptorLimit"
        case .maxConnections: "maxConnections"
        case .engineLimit: "engineLimit"
        }
    }
}

extension EventLoop.CallbackKind: CustomStringConvertible {
    /// `data`, `timer`, …
    public var description: String { rawValue }
}

extension EventLoop.Group.Hang: CustomStringConvertible {
    /// `loop 2 has not answered for 5.0 seconds`; once it is over, `loop 2 answers again, after 7.5 seconds`.
    public var description: String {
        isOver
            ? "loop \(loop) answers again, after \(duration)" : "loop \(loop) has not answered for \(duration)"
    }
}

extension EventLoop.CallbackTime: CustomStringConvertible {
    /// `data: 0.012 seconds`.
    public var description: String { "\(kind): \(duration)" }
}

extension EventLoop.Signal: CustomStringConvertible {
    /// `SIGTERM`; `signal 40` for one that has no name here.
    public var description: String {
        switch self {
        case .hangUp: "SIGHUP"
        case .interrupt: "SIGINT"
        case .user1: "SIGUSR1"
        case .user2: "SIGUSR2"
        case .terminate: "SIGTERM"
        default: "signal \(rawValue)"
        }
    }
}

extension EventLoop.OverloadEvent: CustomStringConvertible {
    /// `began`, `shed(3)`, `ended`.
    public var description: String {
        switch self {
        case .began: "began"
        case .shed(let count): "shed(\(count))"
        case .ended: "ended"
        }
    }
}

extension Connection.PeerCredentials: CustomStringConvertible {
    /// `process 4711, user 1000, group 1000`.
    public var description: String { "process \(processID), user \(userID), group \(groupID)" }
}
