import Glibc

/// A moment on CLOCK_MONOTONIC at which an operation gives up.
struct Deadline: Sendable {
    /// The limit it was made from, for the error's text.
    let limit: Duration
    private let nanoseconds: Int64

    /// Durations beyond this many seconds count as this many, so that no sum below overflows: a year.
    private static let longestSeconds: Int64 = 31_536_000

    init(in limit: Duration) {
        self.limit = limit
        let (seconds, attoseconds) = limit.components
        let bounded = min(max(seconds, 0), Self.longestSeconds)
        nanoseconds = Self.now + bounded * 1_000_000_000 + max(attoseconds, 0) / 1_000_000_000
    }

    private static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// What is left, for poll(2). Rounded up: rounded down, the last millisecond would be a busy loop.
    var remainingMilliseconds: Int32 {
        let left = max(nanoseconds - Self.now, 0)
        return Int32(min((left + 999_999) / 1_000_000, Int64(Int32.max)))
    }

    /// The moment itself, for pthread_cond_timedwait(3).
    var time: timespec {
        timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    }

    var hasPassed: Bool { Self.now >= nanoseconds }

    /// The error that says that it has.
    func error(_ call: String, waitedFor: String) -> PeerError {
        PeerError(call: call, cause: .timeLimit(limit), waitedFor: waitedFor)
    }
}
