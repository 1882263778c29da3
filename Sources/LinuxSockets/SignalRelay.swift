internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import Synchronization

/// Brings signals from the process's handler to one loop.
///
/// A signal handler may do hardly anything (signal-safety(7)). This one notes the signal in a mask and raises the
/// loop's counter, which makes the signal an event like any other.
///
/// The action of a signal belongs to the process, so the loops of all engines share this relay. libuv's own watchers
/// would replace the action for the other engines' loops. So does a library that sets the action meanwhile.
final class SignalRelay {
    private let place: Int
    /// How many watchers of this loop each signal has.
    private var counts: [Int32: Int] = [:]

    /// Throws ENOSPC if 64 loops watch signals already: their number is fixed, since the handler may not allocate.
    init(counter: Counter) throws(IOError) {
        guard let place = handlerTable.claim(counter.descriptor) else {
            throw .invalid("sigaction", "\(handlerTable.places.count) loops watch signals already", errno: ENOSPC)
        }
        self.place = place
    }

    static func bit(of number: Int32) -> UInt64 { 1 << UInt64(number - 1) }

    /// One more watcher of a signal.
    func add(_ number: Int32) throws(IOError) {
        guard (1...64).contains(number) else { throw Self.cannotWatch(number) }
        if counts[number, default: 0] == 0 {
            guard SignalActions.shared.withLock({ $0.catchOnceMore(number) }) else { throw Self.cannotWatch(number) }
            handlerTable.places[place].wanted.bitwiseOr(Self.bit(of: number), ordering: .sequentiallyConsistent)
        }
        counts[number, default: 0] += 1
    }

    private static func cannotWatch(_ number: Int32) -> IOError {
        .invalid("sigaction", "signal \(number) cannot be watched")
    }

    func remove(_ number: Int32) {
        guard let count = counts[number] else { return }
        counts[number] = count > 1 ? count - 1 : nil
        guard count == 1 else { return }
        handlerTable.places[place].wanted.bitwiseAnd(~Self.bit(of: number), ordering: .sequentiallyConsistent)
        SignalActions.shared.withLock { $0.catchOnceLess(number) }
    }

    /// The signals that have come since the last call, one bit each. Several of one kind are one.
    func collectPending() -> UInt64 {
        handlerTable.places[place].pending.exchange(0, ordering: .sequentiallyConsistent)
    }

    /// When this returns, no handler raises the counter any more.
    func close() {
        for number in counts.keys { remove(number) }
        handlerTable.release(place)
    }
}

/// What the handler looks at: memory that never moves and is never freed.
private struct HandlerTable: ~Copyable {
    struct Place: ~Copyable {
        /// The loop's counter; -1 if the place is free.
        let descriptor = Atomic<Int32>(-1)
        let wanted = Atomic<UInt64>(0)
        let pending = Atomic<UInt64>(0)
    }

    let places = InlineArray<64, Place> { _ in Place() }
    let handlersRunning = Atomic<Int>(0)

    func claim(_ descriptor: Int32) -> Int? {
        for index in places.indices {
            let (isClaimed, _) = places[index].descriptor.compareExchange(
                expected: -1, desired: descriptor, ordering: .sequentiallyConsistent)
            if isClaimed { return index }
        }
        return nil
    }

    /// When this returns, no handler writes to the place's descriptor, so that it can be closed.
    func release(_ index: Int) {
        places[index].wanted.store(0, ordering: .sequentiallyConsistent)
        // A handler on another thread may have looked before. It returns in a moment.
        while handlersRunning.load(ordering: .sequentiallyConsistent) > 0 { sched_yield() }
        places[index].pending.store(0, ordering: .sequentiallyConsistent)
        places[index].descriptor.store(-1, ordering: .sequentiallyConsistent)
    }

    /// Called by the handler. Only atomics and write(2) are allowed here.
    func note(_ number: Int32) {
        handlersRunning.add(1, ordering: .sequentiallyConsistent)
        let bit = SignalRelay.bit(of: number)
        var index = 0
        while index < places.count {
            if places[index].wanted.load(ordering: .sequentiallyConsistent) & bit != 0 {
                places[index].pending.bitwiseOr(bit, ordering: .sequentiallyConsistent)
                var one: UInt64 = 1
                let descriptor = places[index].descriptor.load(ordering: .sequentiallyConsistent)
                // This fails only when the counter is full, and then it is readable already.
                _ = unsafe write(descriptor, &one, MemoryLayout<UInt64>.size)
            }
            index &+= 1
        }
        handlersRunning.subtract(1, ordering: .sequentiallyConsistent)
    }
}

/// Made before the first handler is set, since a handler may not make it.
private let handlerTable = HandlerTable()

/// The actions of the signals that the process's loops watch.
private struct SignalActions {
    static let shared = Mutex(SignalActions())

    /// How many loops watch a signal, and its action before.
    private var caught: [Int32: (loops: Int, before: sigaction)] = [:]

    /// Returns false if the kernel refuses, as for SIGKILL and SIGSTOP (sigaction(2)).
    mutating func catchOnceMore(_ number: Int32) -> Bool {
        if let known = caught[number] {
            caught[number] = (known.loops + 1, known.before)
            return true
        }
        var action = sigaction()
        unsafe linux_set_handler(&action) { number in
            // The code that the signal has interrupted may not have read its own errno yet.
            let saved = errno
            handlerTable.note(number)
            errno = saved
        }
        action.sa_flags = SA_RESTART
        unsafe sigfillset(&action.sa_mask)
        var before = sigaction()
        guard unsafe sigaction(number, &action, &before) == 0 else { return false }
        caught[number] = (1, before)
        return true
    }

    mutating func catchOnceLess(_ number: Int32) {
        guard let known = caught[number] else { return }
        if known.loops > 1 {
            caught[number] = (known.loops - 1, known.before)
        } else {
            caught[number] = nil
            var before = known.before
            unsafe sigaction(number, &before, nil)
        }
    }
}
