import Foundation

extension Run {
    /// More is a fault of this program's arithmetic or a buffer that a resting connection kept.
    private static let mostBytesEach = 1_024
    /// Of one processor, while nothing happens.
    private static let mostIdleCPU = 0.01

    static let idle = Run(name: "idle", summary: "many at rest, which then all answer") { trial in
        let count = trial.size(15_000, small: 400, select: 900)
        let time: Duration = trial.isSmall ? .milliseconds(500) : .seconds(60)
        trial.load = "\(count.grouped) held for \(time)"
        let server = try trial.server()
        let before = try server.residentBytes()
        let crowd = try Crowd(server.port, count: count, seed: trial.seed) { trial.progress("\($0.grouped) connected") }
        try crowd.exchangeAll(64, trial)
        let each = Double(try server.residentBytes() - before) / Double(count)
        trial.tell(String(format: "%.0f bytes each", each))
        // With few, what the process needs once is too large a part.
        if !trial.isSmall { trial.expect(each < Double(mostBytesEach), "a connection takes \(each) bytes") }
        let cpuBefore = try server.cpuTime()
        let end = ContinuousClock.now + time
        while ContinuousClock.now < end {
            trial.progress("held")
            pause(min(.milliseconds(100), end - ContinuousClock.now))
        }
        let share = (try server.cpuTime() - cpuBefore) / time
        trial.tell(String(format: "idle CPU %.2f %%", share * 100))
        // The unit of the figure is 10 ms.
        trial.expect(share <= mostIdleCPU + 0.01 / time.seconds, "\(share * 100) % of a processor while idle")
        try crowd.exchangeAll(64, trial)
        crowd.closeAll()
        try trial.settle(server, accepted: count, causes: [])
    }
}
