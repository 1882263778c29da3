/// The armed timers of one connection, which end with it.
final class OwnedTimers {
    private var timers: [ObjectIdentifier: EventLoop.Timer] = [:]
    /// From then on none of them can be armed, those at rest included.
    private(set) var isEnded = false

    func add(_ timer: EventLoop.Timer) { timers[ObjectIdentifier(timer)] = timer }
    func remove(_ timer: EventLoop.Timer) { timers[ObjectIdentifier(timer)] = nil }

    func end() {
        isEnded = true
        let ending = timers
        timers = [:]
        for timer in ending.values { timer.abandon() }
    }
}
