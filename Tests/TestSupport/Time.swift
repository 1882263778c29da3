import Glibc

/// CLOCK_MONOTONIC, now: what timers are measured against.
public func monotonicTime() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return .seconds(Int64(time.tv_sec)) + .nanoseconds(Int64(time.tv_nsec))
}

/// Keeps this thread busy, as a callback that computes for long does.
public func compute(for time: Duration) {
    let end = monotonicTime() + time
    while monotonicTime() < end {}
}

/// Lets time pass while something is watched, such as how much of it a server computes. Synchronizes nothing.
public func observe(for time: Duration) {
    let end = monotonicTime() + time
    // poll(2) without descriptors only waits; a signal may cut it short.
    while monotonicTime() < end { poll(nil, 0, 5) }
}

/// How long one thing may take that a test waits for, unless the test says otherwise. It only ends what will never
/// come: a machine may be busy.
public let standardTimeLimit = Duration.seconds(30)
