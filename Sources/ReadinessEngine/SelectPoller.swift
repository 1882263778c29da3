internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc

/// select(2): two sets of bits, one for each direction, which each wait overwrites. They hold the descriptors below
/// 1,024 and no others.
@safe final class SelectPoller: Poller {
    /// FD_SETSIZE, fixed in the system's headers. A larger number would write past the set.
    static let limit: Int32 = 1_024

    // Unchecked below (swift.md 1): no access lasts longer than these methods, which call no one else's code.

    // What is waited for. The kernel is given copies.
    @safe @exclusivity(unchecked) private var wantedReadable = fd_set()
    @safe @exclusivity(unchecked) private var wantedWritable = fd_set()
    @safe @exclusivity(unchecked) private var tokens: [Token?] = Array(repeating: nil, count: Int(SelectPoller.limit))
    /// The smallest descriptor with a token: standard streams need not be looked at.
    @safe @exclusivity(unchecked) private var start: Int32 = 0
    /// One more than the largest descriptor with a token.
    private var end: Int32 = 0
    /// In the set of readable descriptors and without a place in `tokens`, so that no search meets it.
    private var last: Token?
    /// One more than the largest descriptor in a set, as select(2) wants it.
    @safe @exclusivity(unchecked) private var setEnd: Int32 = 0
    /// What the last wait found. Not kept in the tokens, which callbacks change.
    @safe @exclusivity(unchecked) private var ready = EventList()

    init() {
        unsafe linux_fd_zero(&wantedReadable)
        unsafe linux_fd_zero(&wantedWritable)
    }

    var descriptorLimit: Int32? { Self.limit }

    func change(_ token: Token, from old: Readiness, to new: Readiness) throws(IOError) {
        let descriptor = token.descriptor
        guard descriptor < Self.limit else { throw .notSelectable(descriptor) }
        if new.contains(.readable) {
            unsafe linux_fd_set(descriptor, &wantedReadable)
        } else {
            unsafe linux_fd_clr(descriptor, &wantedReadable)
        }
        if new.contains(.writable) {
            unsafe linux_fd_set(descriptor, &wantedWritable)
        } else {
            unsafe linux_fd_clr(descriptor, &wantedWritable)
        }
        tokens[Int(descriptor)] = new.isEmpty ? nil : token
        start = min(start, descriptor)
        end = max(end, descriptor + 1)
        updateEnds()
    }

    /// After a change of `tokens`.
    private func updateEnds() {
        while end > 0, tokens[Int(end) - 1] == nil { end -= 1 }
        while start < end, tokens[Int(start)] == nil { start += 1 }
        setEnd = max(end, last.map { $0.descriptor + 1 } ?? 0)
    }

    func watchLast(_ token: Token?) throws(IOError) {
        if let last {
            self.last = nil
            try change(last, from: .readable, to: [])
        }
        guard let token else { return }
        try change(token, from: [], to: .readable)
        tokens[Int(token.descriptor)] = nil
        last = token
        updateEnds()
    }

    func wait(milliseconds: Int32) throws(IOError) -> Int {
        ready.removeAll()
        var readable = wantedReadable
        var writable = wantedWritable
        var left = select(descriptorsBelow: setEnd, &readable, &writable, milliseconds)
        if left < 0 { return try waitFailed() }
        var descriptor = start
        while left > 0 {
            guard descriptor < setEnd else {
                reportLast()
                break
            }
            if let token = tokens[Int(descriptor)] {
                var readiness: Readiness = []
                // A hang-up counts as readable and an error as both (select(2), "Correspondence between select()
                // and poll() notifications").
                if unsafe linux_fd_isset(descriptor, &readable) != 0 { readiness.insert(.readable) }
                if unsafe linux_fd_isset(descriptor, &writable) != 0 { readiness.insert(.writable) }
                // The kernel counts a descriptor once for each set.
                left -= Int32(readiness.rawValue.nonzeroBitCount)
                if !readiness.isEmpty { ready.append(Event(token: token, readiness: readiness)) }
            }
            descriptor += 1
        }
        return ready.count
    }

    /// All others have been looked at, and one is ready still.
    @inline(never)
    private func reportLast() {
        if let last { ready.append(Event(token: last, readiness: .readable)) }
    }

    /// Not inlined into the path of every message: swift.md 7.
    @inline(never)
    private func waitFailed() throws(IOError) -> Int {
        switch errno {
        case EINTR: return -1
        case EBADF: return reportClosed()
        case let error: throw IOError(call: "select", errno: error)
        }
    }

    /// Other code has closed a descriptor of the set: select(2) then reports none of the others. The owner's next read
    /// or write fails with EBADF, as after poll's POLLNVAL, and the descriptor leaves the set.
    private func reportClosed() -> Int {
        for descriptor in start..<end where fcntl(descriptor, F_GETFD) < 0 {
            guard let token = tokens[Int(descriptor)] else { continue }
            ready.append(Event(token: token, readiness: [.readable, .writable]))
        }
        return ready.count
    }

    func event(_ index: Int) -> Event { ready[index] }

    func close() {}
}

/// One select(2); no time limit when `milliseconds` is negative.
private func select(
    descriptorsBelow end: Int32, _ readable: inout fd_set, _ writable: inout fd_set, _ milliseconds: Int32
) -> Int32 {
    guard milliseconds >= 0 else { return unsafe Glibc.select(end, &readable, &writable, nil, nil) }
    let (seconds, rest) = Int(milliseconds).quotientAndRemainder(dividingBy: 1_000)
    var limit = timeval(tv_sec: seconds, tv_usec: rest * 1_000)
    return unsafe Glibc.select(end, &readable, &writable, nil, &limit)
}

extension IOError {
    /// What select cannot wait for. EMFILE, since to select this is the end of the table of descriptors.
    static func notSelectable(_ descriptor: Int32) -> IOError {
        let detail = "descriptor \(descriptor) is not below FD_SETSIZE, \(SelectPoller.limit)"
        return IOError(call: "select", errno: EMFILE, detail: detail)
    }
}
