/// The time-outs of all connections of a loop: a binary heap by deadline, and one timer. A connection with a time-out
/// costs 16 bytes. A message does not touch the heap: the true deadline is computed when an entry's deadline has come,
/// and the entry goes back if it lies ahead.
final class TimeoutQueue {
    @safe private struct Entry {
        var deadline: UInt64
        /// Owned by the loop while it is here: a connection leaves before its `onClose`.
        var connection: Unmanaged<Connection>
    }

    private var heap: [Entry] = []
    private var alarm: EventLoop.Timer?
    /// When the alarm rings; `UInt64.max` while it does not, 0 while it is ringing.
    private var alarmDeadline = UInt64.max

    /// A time in which the loop did not look: a callback took long, or the process was stopped.
    struct Stall {
        /// When the loop looked again, in milliseconds of its clock.
        var end: UInt64 = 0
        /// How late the loop was for the first deadline that it missed, in milliseconds.
        var lateness: UInt64 = 0

        /// 10 ms: ordinary turns are late by less.
        static let leastLateness: UInt64 = 10
        /// Only the end of a stall is seen, behind the first missed deadline. It counts as a tenth of the stall: a loop
        /// that is late by a tenth of a time-out gives all of it again, and a loop that is often late by little gives
        /// little.
        static let parts: UInt64 = 10
    }

    /// The last one that an alarm has shown. Measured there, so that a turn pays nothing.
    private(set) var lastStall = Stall()

    /// Sets or moves the deadline of `connection`, in milliseconds of the loop's clock.
    func set(_ connection: Connection, deadline: UInt64, core: LoopCore) {
        let index = Int(connection.timeoutIndex)
        if index < 0 {
            unsafe heap.append(Entry(deadline: deadline, connection: .passUnretained(connection)))
            connection.timeoutIndex = Int32(heap.count - 1)
            siftUp(heap.count - 1)
        } else {
            heap[index].deadline = deadline
            siftDown(siftUp(index))
        }
        ringAtFirst(core)
    }

    /// Forgets `connection`, if it is here.
    func remove(_ connection: Connection) {
        let index = Int(connection.timeoutIndex)
        guard index >= 0 else { return }
        connection.timeoutIndex = -1
        let last = heap.removeLast()
        guard index < heap.count else { return }
        heap[index] = last
        siftDown(siftUp(index))
        // The alarm may now ring too early; it then finds nothing due and is set again.
    }

    func shutDown() {
        alarm?.cancel()
        alarm = nil
        heap = []
    }

    private func ringAtFirst(_ core: LoopCore) {
        guard let deadline = heap.first?.deadline, deadline < alarmDeadline else { return }
        alarmDeadline = deadline
        let alarm = self.alarm ?? makeAlarm(core)
        alarm.reschedule(at: deadline)
    }

    private func makeAlarm(_ core: LoopCore) -> EventLoop.Timer {
        let alarm = EventLoop.Timer(core: core, interval: nil, isInternal: true) { [unowned self, unowned core] _ in
            self.ring(core)
        }
        alarm.unref()
        self.alarm = alarm
        return alarm
    }

    private func ring(_ core: LoopCore) {
        let now = core.milliseconds
        if now >= alarmDeadline, now - alarmDeadline >= Stall.leastLateness {
            lastStall = Stall(end: now, lateness: now - alarmDeadline)
        }
        // An alarm for an entry that is due and not looked at yet would ring late, and show a stall that was none.
        alarmDeadline = 0
        while let first = heap.first, first.deadline <= now {
            // Held for the call: a time-out that closes the connection may let go of the loop's reference.
            let connection = unsafe first.connection.takeUnretainedValue()
            remove(connection)
            connection.timeoutsDue(now: now)
        }
        alarmDeadline = .max
        ringAtFirst(core)
    }

    // MARK: The heap

    @discardableResult
    private func siftUp(_ start: Int) -> Int {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard heap[index].deadline < heap[parent].deadline else { break }
            exchange(index, parent)
            index = parent
        }
        note(index)
        return index
    }

    private func siftDown(_ start: Int) {
        var index = start
        while true {
            var least = index
            for child in (2 * index + 1)...(2 * index + 2) where child < heap.count {
                if heap[child].deadline < heap[least].deadline { least = child }
            }
            guard least != index else { break }
            exchange(index, least)
            index = least
        }
        note(index)
    }

    private func exchange(_ left: Int, _ right: Int) {
        heap.swapAt(left, right)
        note(left)
        note(right)
    }

    private func note(_ index: Int) {
        unsafe heap[index].connection._withUnsafeGuaranteedRef { $0.timeoutIndex = Int32(index) }
    }
}
