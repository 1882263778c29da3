internal import CallbackModel
public import ParityKit

/// What cannot be played over TLS.
enum TLSObstacle {
    /// Why `scenario` cannot be played over TLS; `nil` if it can.
    static func of(_ scenario: Scenario) -> String? {
        if scenario.peers.isEmpty { return "it has no peer that could speak TLS" }
        return byName[scenario.name]
    }

    private static let byName = [
        "tcp_open_connected": "a socket is adopted, on which only startTLS begins TLS",
        "stale_event_for_a_new_owner": "a socket is adopted, on which only startTLS begins TLS",
    ]
}

extension Scenario {
    /// The same scenario with what TLS has to change in its outcome.
    public var overTLS: Scenario {
        var scenario = self
        TLSChange.byName[name]?.change(&scenario)
        return scenario
    }

    /// Why ``overTLS`` is not the same; `nil` if it is.
    public var differenceOverTLS: String? { TLSChange.byName[name]?.reason }
}

/// What TLS has to change in a scenario's outcome.
struct TLSChange {
    let reason: String
    let change: @Sendable (inout Scenario) -> Void

    init(_ reason: String, _ change: @escaping @Sendable (inout Scenario) -> Void) {
        self.reason = reason
        self.change = change
    }

    static let byName = [
        "close_in_the_first_callback": TLSChange("it closes before it opens, which is behind the handshake") {
            $0.expected[0].isOpened = false
        },
        "idle_timeout": TLSChange(lateACK) { $0.options.connection.timeouts.idle = .milliseconds(300) },
        "local_reset_unix": TLSChange("a reset says no close_notify, and on a Unix socket it is no RST") {
            $0.expected[0].peerEnding = .truncated
        },
        "max_connections_refuse": TLSChange("it is refused in the middle of its handshake: FIN, or RST for its hello") {
            $0.expected[1].peerEnding = nil
        },
        "tcp_close_after_read_timeout": TLSChange(lateACK) {
            $0.options.connection.timeouts.read = .milliseconds(300)
        },
        "write_to_one_that_is_gone": TLSChange("close_notify comes before the socket is gone, which may take a write") {
            $0.expected[0].closing = nil
        },
    ]

    /// Linux: TCP_DELACK_MAX is 0.2 s.
    private static let lateACK =
        "behind a handshake the peer's kernel waits up to 0.2 s with an ACK, without which a time-out resets"
}
