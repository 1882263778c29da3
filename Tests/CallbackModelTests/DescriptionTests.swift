import Glibc
import Testing

@testable import CallbackModel

@Suite struct `What is told` {
    private static let refused = IOError(call: "connect", errno: ECONNREFUSED)
    private static let drained: DrainReport = {
        var report = DrainReport()
        for reason in [CloseReason.peerClosed, .localClose, .peerClosed, .drainDeadline] {
            report.count(reason, wasReset: false)
        }
        return report
    }()
    private static let unanswered: DrainReport = {
        var report = DrainReport()
        report.unanswered = 2
        return report
    }()
    private static let slow = EventLoop.CallbackTime(kind: .data, duration: .milliseconds(12))

    /// As `print` shows it, and as it stands in an array or an optional, where Swift would add the module's name.
    @Test(
        arguments: [
            (CloseReason.timedOut(.idle), "timedOut(idle)"), (CloseReason.peerClosed, "peerClosed"),
            (CloseReason.failed(refused), "failed(connect: ECONNREFUSED (connection refused))"),
            (TimeoutKind.write, "write"), (WriteStatus.saturated, "saturated"),
            (WriteResult.failed(.timedOut(.close)), "failed(timedOut(close))"), (WriteResult.sent, "sent"),
            (drained, "3 finished, 1 forced, 0 broken (1 drainDeadline, 1 localClose, 2 peerClosed)"),
            (
                EventLoop.Group.Hang(loop: 2, duration: .seconds(5), isOver: false),
                "loop 2 has not answered for 5.0 seconds"
            ),
            (
                EventLoop.Group.Hang(loop: 2, duration: .seconds(7), isOver: true),
                "loop 2 answers again, after 7.0 seconds"
            ),
            (unanswered, "0 finished, 0 forced, 0 broken, 2 unanswered"),
            (DrainReport(), "0 finished, 0 forced, 0 broken"), (slow, "data: 0.012 seconds"),
            (Listener.Shed(count: 12, cause: .maxConnections), "12 turned away: maxConnections"),
            (EventLoop.Signal.terminate, "SIGTERM"), (EventLoop.Signal(rawValue: 40), "signal 40"),
            (EventLoop.OverloadEvent.began, "began"), (EventLoop.OverloadEvent.shed(count: 3), "shed(3)"),
            (EventLoop.OverloadEvent.ended, "ended"),
            (Connection.PeerCredentials(processID: 7, userID: 8, groupID: 9), "process 7, user 8, group 9"),
        ] as [(any Sendable, String)])
    func `is printed without the names of modules`(value: any Sendable, text: String) {
        #expect("\(value)" == text)
        #expect("\([value])" == "[\(text)]")
        #expect("\(Optional(value) as Any)" == "Optional(\(text))")
    }

    @Test func `has no module's name inside of other values either`() {
        let metrics = EventLoop.Metrics(
            turns: 1, events: 2, callbacks: 3, timeAsleep: .seconds(1), longestCallback: Self.slow)
        for text in ["\(metrics)", "\([Self.drained.reasons])", "\(Self.refused)", "\([Self.refused])"] {
            #expect(!text.contains("CallbackModel"), "\(text)")
        }
    }
}
