/// The armed timers of one connection, which end with it.
final class OwnedTimers {
    private var timers: [ObjectIdentifier: EventLoop.Timer] = [:]

    func add(_ timer: EventLoop.Timer) { timers[ObjectIdentifier(timer)] = timer }
    func remove(_ timer: EventLoop.Timer) { timers[ObjectIdentifier(timer)] = nil }

    func end() {
        let ending = timers
        timers = [:]
        for timer in ending.values { timer.abandon() }
    }
}
