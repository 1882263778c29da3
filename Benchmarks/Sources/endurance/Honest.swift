import Foundation
import Histogram

/// The client that wants nothing but its answers, and measures how long each takes.
struct Honest: Sendable {
    private(set) var requests = 0
    private(set) var failures: [String] = []
    /// Of the requests, in microseconds.
    private(set) var p99: Double = 0

    /// A request is sent so often: often enough for a percentile, seldom enough to leave the server idle in between.
    static let interval: Duration = .microseconds(500)
    static let size = 64
    /// In nanoseconds; slower ones count as ten seconds, at which a client gives up.
    private static let slowest: UInt64 = 10_000_000_000

    /// Sends requests, one after another, for as long as `goesOn`.
    init(_ port: UInt16, seed: UInt64, while goesOn: () -> Bool) {
        var histogram = Histogram<UInt32>(
            highestTrackableValue: Self.slowest, numberOfSignificantValueDigits: .three)
        let pattern = Pattern(seed: seed)
        var next = ContinuousClock.now
        do {
            let client = try Client(port: port)
            while goesOn() {
                let payload = ArraySlice(pattern.bytes(at: requests * Self.size, count: Self.size))
                let start = ContinuousClock.now
                requests += 1
                try client.send(payload)
                try client.receive(payload)
                let end = ContinuousClock.now
                histogram.record(min(UInt64((end - start) / .nanoseconds(1)), Self.slowest))
                next = max(next + Self.interval, end)
                pause(next - end)
            }
            try client.halfClose()
            try client.receiveEnd()
        } catch {
            failures.append("honest request \(requests): \(error)")
        }
        p99 = Double(histogram.valueAtPercentile(99)) / 1_000
    }
}

extension Array where Element == Double {
    /// The middle one; with an even count, the lower of the two.
    var median: Double { isEmpty ? 0 : sorted()[(count - 1) / 2] }
}
