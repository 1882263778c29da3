extension LoopCore {
    /// At most 1,024 bodies run at a time: threads that ask faster than the loop runs would otherwise keep it from its
    /// sockets and timers. As many short ones take about as long as 32 reads, which one connection may have.
    static let wokenAtATime = 1_024

    /// Whether something waits that other threads have asked for.
    var hasWoken: Bool { !woke.isEmpty || !wakes.isEmpty || jobs.hasInbox }

    /// What `LoopDriver.woken` does: runs what follows the work of the loop's own threads,
    /// then what other threads have asked for so far, up to the limit. The rest runs in the next turn.
    func woken() {
        offloads.becameReady(holdIfNeeded)
        lookUps.becameReady(holdIfNeeded)
        runCollectedJobs()
        // Once: what a body asks for waits until the next turn.
        let isRest = !woke.isEmpty
        if !isRest { woke = wakes.removeAll() }
        var left = Self.wokenAtATime
        while left > 0, let body = woke.next() {
            left -= 1
            perform(.executed, body)
        }
        // The wake-up for what was added while a rest ran may be the one that led here.
        if !woke.isEmpty || isRest && !wakes.isEmpty { wakes.wake() }
    }

    /// Lets go of what other threads have asked for, and refuses what they will ask.
    func closeWoken() {
        wakes.close()
        let left = woke
        // Out of its place first: what a body has captured may ask for something as it goes.
        woke = WakeBatch()
        left.letGo()
    }
}
