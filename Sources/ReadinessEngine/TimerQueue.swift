/// The armed timers of a loop: a binary heap, the earliest at its root.
struct TimerQueue {
    // A timer is here from `start` until it fires or is stopped. The model closes each before it releases it.
    private var heap: [ReadinessTimer] = []
    private var starts: UInt64 = 0
    /// How many keep the loop running.
    var referencedCount = 0

    var isEmpty: Bool { heap.isEmpty }

    /// The earliest deadline, in milliseconds of the loop's clock.
    var firstDeadline: UInt64? { heap.first?.deadline }

    /// Removes and returns the earliest timer, if it is due and `startCount` was below `limit` when it was started.
    ///
    /// Otherwise a callback that starts timers which are due at once would keep the loop from its events.
    mutating func popDue(at now: UInt64, startedBefore limit: UInt64) -> ReadinessTimer? {
        guard let first = heap.first, first.deadline <= now, first.order < limit else { return nil }
        remove(first)
        return first
    }

    /// The number of starts so far: the limit for `popDue`.
    var startCount: UInt64 { starts }

    mutating func insert(_ timer: ReadinessTimer) {
        timer.order = starts
        starts += 1
        if timer.isReferenced { referencedCount += 1 }
        timer.index = heap.count
        heap.append(timer)
        siftUp(timer.index)
    }

    mutating func remove(_ timer: ReadinessTimer) {
        if timer.isReferenced { referencedCount -= 1 }
        let index = timer.index
        timer.index = -1
        let last = heap.removeLast()
        guard index < heap.count else { return }
        place(last, at: index)
        siftUp(index)
        siftDown(last.index)
    }

    private mutating func place(_ timer: ReadinessTimer, at index: Int) {
        heap[index] = timer
        timer.index = index
    }

    private static func isEarlier(_ left: ReadinessTimer, _ right: ReadinessTimer) -> Bool {
        left.deadline != right.deadline ? left.deadline < right.deadline : left.order < right.order
    }

    private mutating func siftUp(_ start: Int) {
        let timer = heap[start]
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard Self.isEarlier(timer, heap[parent]) else { break }
            place(heap[parent], at: index)
            index = parent
        }
        place(timer, at: index)
    }

    private mutating func siftDown(_ start: Int) {
        let timer = heap[start]
        var index = start
        while true {
            var child = 2 * index + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, Self.isEarlier(heap[child + 1], heap[child]) { child += 1 }
            guard Self.isEarlier(heap[child], timer) else { break }
            place(heap[child], at: index)
            index = child
        }
        place(timer, at: index)
    }
}
