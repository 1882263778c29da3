internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

/// poll(2): each wait hands the whole set to the kernel, and looks through it afterwards. A wait costs in proportion to
/// all descriptors, at rest or not.
@safe final class PollPoller: Poller {
    // Unchecked below (swift.md 1): no access lasts longer than these methods, which call no one else's code.

    /// What the kernel is given, without gaps. `tokens` has the token of each entry.
    @safe @exclusivity(unchecked) private var entries: [pollfd] = []
    @safe @exclusivity(unchecked) private var tokens: [Token] = []
    /// The place of a descriptor's entry, by its number; -1 if it has none.
    @safe @exclusivity(unchecked) private var places: [Int32] = []
    /// The token of the last entry, which stays the last.
    private var last: Token?
    /// What the last wait found. Not kept in the entries, which callbacks move.
    @safe @exclusivity(unchecked) private var ready = EventList()

    var descriptorLimit: Int32? { nil }

    func change(_ token: Token, from old: Readiness, to new: Readiness) throws(IOError) {
        if new.isEmpty {
            remove(token.descriptor)
        } else if old.isEmpty {
            add(token, new)
        } else {
            entries[Int(places[Int(token.descriptor)])].events = pollBits(of: new)
        }
    }

    private func add(_ token: Token, _ readiness: Readiness) {
        let number = Int(token.descriptor)
        if number >= places.count {
            places.append(contentsOf: repeatElement(-1, count: max(64, number + 1 - places.count)))
        }
        places[number] = Int32(entries.count)
        entries.append(pollfd(fd: token.descriptor, events: pollBits(of: readiness), revents: 0))
        tokens.append(token)
        if last != nil { exchangeLastTwo() }
    }

    func watchLast(_ token: Token?) throws(IOError) {
        if let last {
            self.last = nil
            remove(last.descriptor)
        }
        if let token { add(token, .readable) }
        last = token
    }

    /// The last two entries change places. There are two: the loop's counter is always waited for.
    private func exchangeLastTwo() {
        let end = entries.count
        entries.swapAt(end - 2, end - 1)
        tokens.swapAt(end - 2, end - 1)
        for place in end - 2..<end { places[Int(tokens[place].descriptor)] = Int32(place) }
    }

    /// Fills the gap with the last entry, whose order does not matter.
    private func remove(_ descriptor: Int32) {
        if last != nil { exchangeLastTwo() }
        let place = Int(places[Int(descriptor)])
        places[Int(descriptor)] = -1
        let last = entries.removeLast()
        let lastToken = tokens.removeLast()
        guard place < entries.count else { return }
        entries[place] = last
        tokens[place] = lastToken
        places[Int(lastToken.descriptor)] = Int32(place)
    }

    func wait(milliseconds: Int32) throws(IOError) -> Int {
        ready.removeAll()
        var left = unsafe poll(&entries, nfds_t(entries.count), milliseconds)
        if left < 0, errno == EINVAL { left = pollOneByOne(milliseconds) }
        if left < 0 { return try waitFailed() }
        var index = 0
        while left > 0 {
            let bits = entries[index].revents
            if bits != 0 {
                ready.append(Event(token: tokens[index], readiness: readiness(ofPollBits: bits)))
                left -= 1
            }
            index += 1
        }
        return ready.count
    }

    /// Not inlined into the path of every message: swift.md 7.
    @inline(never)
    private func waitFailed() throws(IOError) -> Int {
        guard errno == EINTR else { throw IOError(call: "poll", errno: errno) }
        return -1
    }

    /// The kernel refuses more entries than the process may have descriptors (poll(2), EINVAL). That happens when the
    /// limit was lowered. Then each descriptor is asked alone, every 10 ms, until the limit has room again.
    private func pollOneByOne(_ milliseconds: Int32) -> Int32 {
        var count: Int32 = 0
        for index in entries.indices {
            entries[index].revents = 0
            count += max(0, unsafe poll(&entries[index], 1, 0))
        }
        if count == 0, milliseconds != 0 { _ = poll(nil, 0, milliseconds < 0 ? 10 : min(10, milliseconds)) }
        return count
    }

    func event(_ index: Int) -> Event { ready[index] }

    func close() {}
}

/// What poll is asked for. It also reports POLLERR, POLLHUP and POLLNVAL, asked or not.
func pollBits(of readiness: Readiness) -> Int16 {
    var bits: Int32 = 0
    if readiness.contains(.readable) { bits |= POLLIN }
    if readiness.contains(.writable) { bits |= POLLOUT }
    return Int16(bits)
}

/// What the events of a poll entry mean to the loop.
func readiness(ofPollBits bits: Int16) -> Readiness {
    let bits = Int32(bits)
    // POLLNVAL is a descriptor that other code has closed. The read or write that follows fails with EBADF.
    if bits & (POLLERR | POLLHUP | POLLNVAL) != 0 { return [.readable, .writable] }
    var readiness: Readiness = []
    if bits & POLLIN != 0 { readiness.insert(.readable) }
    if bits & POLLOUT != 0 { readiness.insert(.writable) }
    return readiness
}
