import Testing

@testable import CallbackModel

@Suite struct `Durations in whole milliseconds` {
    static let longest = Duration.longestMilliseconds

    @Test(
        arguments: [
            (.zero, 0), (.nanoseconds(1), 1), (.microseconds(999), 1), (.milliseconds(1), 1),
            (.milliseconds(1) + .nanoseconds(1), 2), (.seconds(1), 1_000), (.seconds(2) - .nanoseconds(1), 2_000),
            (.milliseconds(1_500), 1_500), (Duration(secondsComponent: 0, attosecondsComponent: 1), 1),
            (.seconds(100 * 365 * 24 * 3_600), longest), (.seconds(Int64.max), longest),
            (.milliseconds(longest) - .milliseconds(1), longest - 1),
        ] as [(Duration, Int64)])
    func `are rounded up, so that no timer fires early, and bounded`(duration: Duration, milliseconds: Int64) {
        #expect(duration.wholeMilliseconds == milliseconds)
    }

    @Test(
        arguments: [
            (.nanoseconds(-1), 0), (.milliseconds(-1), -1), (.microseconds(-1_500), -1), (.seconds(-1), -1_000),
            (.milliseconds(-1_500), -1_500), (.seconds(-Int64.max), -longest), (.seconds(Int64.min), -longest),
        ] as [(Duration, Int64)])
    func `are rounded towards the future also below zero`(duration: Duration, milliseconds: Int64) {
        #expect(duration.wholeMilliseconds == milliseconds)
    }
}

@Suite struct `Instants` {
    @Test(
        arguments: [
            (1_000, .zero, 1_000), (1_000, .milliseconds(5), 1_005), (1_000, .nanoseconds(1), 1_001),
            (1_000, .milliseconds(-5), 995), (1_000, .seconds(-5), 0), (0, .seconds(-1), 0),
            (UInt64(Int64.max), .milliseconds(1), UInt64(Int64.max)), (UInt64.max, .seconds(1), UInt64(Int64.max)),
            (0, .seconds(Int64.max), UInt64(Duration.longestMilliseconds)), (5, .seconds(Int64.min), 0),
        ] as [(UInt64, Duration, UInt64)])
    func `move by durations, and stop at their ends`(start: UInt64, duration: Duration, end: UInt64) {
        let moved = EventLoop.Instant(milliseconds: start).advanced(by: duration)
        #expect(moved.milliseconds == end)
    }

    @Test func `are apart by a duration either way, and in order`() {
        let early = EventLoop.Instant(milliseconds: 1_000)
        let late = EventLoop.Instant(milliseconds: 1_250)
        #expect(early < late && !(late < early) && early == early)
        #expect(early.duration(to: late) == .milliseconds(250))
        #expect(late.duration(to: early) == .milliseconds(-250))
        #expect(early.advanced(by: early.duration(to: late)) == late)
        let last = EventLoop.Instant(milliseconds: .max)
        #expect(EventLoop.Instant(milliseconds: 0).duration(to: last) == .milliseconds(Int64.max))
    }
}
