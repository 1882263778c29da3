internal import Glibc
internal import Histogram

/// Latencies, to three digits from a nanosecond to as long as a load waits.
package struct Distribution {
    private var histogram = Histogram<UInt64>(
        highestTrackableValue: 100_000_000_000, numberOfSignificantValueDigits: .three)

    package init(_ nanoseconds: [Int64] = []) {
        add(nanoseconds)
    }

    package mutating func add(_ nanoseconds: [Int64]) {
        for value in nanoseconds { histogram.record(UInt64(max(0, value))) }
    }

    package func microseconds(at percentile: Double) -> Double {
        Double(histogram.valueAtPercentile(percentile)) / 1000
    }

    package var isEmpty: Bool { histogram.totalCount == 0 }

    /// The curve: percentiles that come closer to 100 as they go on, as far as there are values to tell them apart.
    package var curve: [CurvePoint] {
        var points: [CurvePoint] = []
        var beyond = 0.5
        while beyond * Double(histogram.totalCount) >= 1 {
            let percentile = 100 * (1 - beyond)
            points.append(CurvePoint(percentile: percentile, microseconds: microseconds(at: percentile)))
            beyond /= 1.3
        }
        return points
    }
}

package struct CurvePoint: Codable, Sendable {
    package let percentile: Double
    package let microseconds: Double
}

/// The middle one, or the mean of the two in the middle; not a number for none.
package func median(_ values: [Double]) -> Double {
    guard !values.isEmpty else { return .nan }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
}

/// The median of the p99 of each window of so many messages, in µs, of nanoseconds: whatever spoils a few windows does
/// not show. What is left for no whole window does not count.
package func usualP99(of latencies: [Int64], window: Int) -> Double {
    let size = min(window, latencies.count)
    guard size > 0 else { return .nan }
    return median(
        (0..<latencies.count / size).map { number in
            Distribution(Array(latencies[number * size..<(number + 1) * size])).microseconds(at: 99)
        })
}

func pause(seconds: Double) {
    var wanted = timespec(tv_sec: Int(seconds), tv_nsec: Int((seconds - seconds.rounded(.down)) * 1e9))
    var left = timespec()
    // A signal ends it early.
    while nanosleep(&wanted, &left) != 0, errno == EINTR { wanted = left }
}
