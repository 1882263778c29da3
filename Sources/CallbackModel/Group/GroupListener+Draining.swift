extension GroupListener {
    /// Stops listening, lets the open connections of all loops finish, and ends those that have not after `limit`, as
    /// ``Listener/drain(within:forcing:_:)`` does on one loop. Then calls `done`, once, on the group's first loop, with
    /// what became of all of them.
    ///
    /// The connections of a loop that ends meanwhile are not counted, nor is one that closes before its loop has heard
    /// of the drain. A second drain replaces the deadline and the callback of the first, which is not called.
    ///
    /// A loop that has not answered a second after the limit, since it hangs, is not waited for:
    /// ``DrainReport/unanswered`` counts its connections.
    ///
    /// - Precondition: `limit` is not negative.
    public func drain(
        within limit: Duration, forcing: Listener.Forcing = .reset, _ done: @escaping (DrainReport) -> Void
    ) {
        require(limit >= .zero, "a listener cannot drain within \(limit): the time is negative")
        core.assertThread("GroupListener.drain")
        guard !core.isShutDown else { return }
        drainCount += 1
        let number = drainCount
        let end = ContinuousClock.now + limit
        drain?.timer?.cancel()
        letGo(of: drain) {
            drain = Drain(
                number: number, waiting: Set(members.indices), report: drain?.report ?? DrainReport(), done: done)
        }
        drain?.timer = EventLoop.Timer(core: core, interval: nil, isInternal: true) { [weak self] _ in
            self?.endDrain()
        }
        drain?.timer?.reschedule(after: limit + Drain.patience)
        // In this order, so that every client that was accepted is at its loop before the loop drains.
        state = state == .open ? .closing : state
        var left = accepting.count
        for socket in sockets where !accepting.contains(where: { $0 === socket }) { socket.close() }
        for socket in accepting {
            socket.drain(within: limit) { [weak self] _ in
                left -= 1
                if left == 0 { self?.drainLoops(number, until: end, forcing) }
            }
        }
        if left == 0 { drainLoops(number, until: end, forcing) }
    }

    struct Drain {
        /// How long a loop may take to answer beyond the drain's own time.
        static let patience = Duration.seconds(1)

        let number: Int
        /// The loops that have not reported yet.
        var waiting: Set<Int>
        /// Whether the loops have been told to drain.
        var isBegun = false
        var report: DrainReport
        var timer: EventLoop.Timer?
        let done: (DrainReport) -> Void
    }

    private func drainLoops(_ number: Int, until end: ContinuousClock.Instant, _ forcing: Listener.Forcing) {
        guard drain?.number == number else { return }
        let limit = max(.zero, end - .now)
        for member in members {
            let index = member.index
            let isAsked = member.door.execute { [self = self.number, door] loop in
                let answer: (DrainReport) -> Void = { report in
                    door.execute { $0.listener?.drained(index, report, of: number) }
                }
                guard let listener = loop.listeners[self] else { return answer(DrainReport()) }
                listener.drain(within: limit, forcing: forcing, answer)
            }
            if !isAsked { drain?.waiting.remove(index) }
        }
        drain?.isBegun = true
        // No callback runs inside a call.
        if drain?.waiting.isEmpty == true { drain?.timer?.reschedule(after: .zero) }
    }

    /// A loop has drained. What it tells of an earlier drain counts, and is no answer to this one.
    private func drained(_ index: Int, _ report: DrainReport, of number: Int) {
        guard drain != nil else { return }
        drain?.report.add(report)
        if drain?.number == number { drain?.waiting.remove(index) }
        goOn()
    }

    func endDrain() {
        guard var drain else { return }
        drain.timer?.cancel()
        drain.report.unanswered = drain.waiting.reduce(0) { $0 + places.count(of: $1) }
        openLoops.subtract(drain.waiting)
        self.drain = nil
        core.performOnce(.drained) { drain.done(drain.report) }
        goOn()
    }
}
