import Glibc

/// The descriptors that this process has open, each with what it is: `socket:[1234]`, `/dev/null`.
///
/// Without timerfd_create(2)'s: the library has none, and libdispatch makes one when it first arms a time limit.
/// Without those that are open for a moment. Under a sanitizer without pipes: it talks through two with the program
/// that finds the names of functions, from the first report on, also of one that is suppressed.
public func openDescriptors() throws -> [Int32: String] {
    let (names, own) = try entries(ofDirectory: "/proc/self/fd")
    var descriptors: [Int32: String] = [:]
    for number in names.compactMap({ Int32($0) }) where number != own {
        guard let file = file(of: number), !isOpenForAMoment(file) else { continue }
        if file == "anon_inode:[timerfd]" || isSanitized && file.hasPrefix("pipe:") { continue }
        descriptors[number] = file
    }
    return descriptors
}

/// What a descriptor of this process is; `nil` if it has been closed.
private func file(of descriptor: Int32) -> String? { target(ofLink: "/proc/self/fd/\(descriptor)") }

/// Files of /sys and /proc, which other threads read now and then, as when they count the processors.
private func isOpenForAMoment(_ file: String) -> Bool { file.hasPrefix("/sys/") || file.hasPrefix("/proc/") }

/// Runs `body` while this process may have no descriptor of this number or above (RLIMIT_NOFILE, soft).
///
/// The limit is the process's: a test that uses this must not run beside another (`.serialized`).
public func withDescriptorLimit<Answer>(_ limit: Int, _ body: () throws -> Answer) throws -> Answer {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var before = rlimit()
    guard getrlimit(resource, &before) == 0 else {
        throw PeerError("getrlimit", errno: errno, waitedFor: "the limit of descriptors")
    }
    var lowered = rlimit(rlim_cur: rlim_t(limit), rlim_max: before.rlim_max)
    guard setrlimit(resource, &lowered) == 0 else {
        throw PeerError("setrlimit", errno: errno, waitedFor: "a limit of \(limit) descriptors")
    }
    defer { setrlimit(resource, &before) }
    return try body()
}

/// Runs `body` while this process can open `room` descriptors more, and no others. For a process of the test's own.
///
/// The limit is one of numbers (getrlimit(2)), so the gaps below the highest one are filled first. Those of raised
/// clients are above the limit.
public func withRoom<Answer>(forDescriptors room: Int, _ body: () throws -> Answer) throws -> Answer {
    let low = try entries(ofDirectory: "/proc/self/fd").names.compactMap { Int32($0) }.filter { $0 < firstRaised }
    let end = (low.max() ?? 0) + 1
    let fillers = try takeDescriptors(below: end)
    defer { for filler in fillers { closeOwned(filler) } }
    return try withDescriptorLimit(Int(end) + room, body)
}

/// Opens descriptors until no number below `end` is free. For a process of the test's own.
///
/// The number of a file that another thread has open for a moment is waited for.
public func takeDescriptors(below end: Int32) throws -> [Int32] {
    var taken: [Int32] = []
    let deadline = Deadline(in: standardTimeLimit)
    while true {
        var next = open("/dev/null", O_RDONLY | O_CLOEXEC)
        while 0..<end ~= next {
            taken.append(next)
            next = open("/dev/null", O_RDONLY | O_CLOEXEC)
        }
        // EMFILE: none is free at all.
        guard next >= 0 || errno == EMFILE else {
            throw PeerError("open", errno: errno, waitedFor: "descriptor \(end)")
        }
        if next >= 0 { closeOwned(next) }
        let isPassing = (0..<end).contains { file(of: $0).map(isOpenForAMoment) ?? true }
        if !isPassing { return taken }
        if deadline.hasPassed { throw deadline.error("open", waitedFor: "files of other threads to close") }
        _ = poll(nil, 0, 1)
    }
}

/// The lowest number of a client's socket, if the process may have one. The numbers below are left to select engines of
/// tests that run beside this one: their sets end there (FD_SETSIZE).
private let firstRaised: Int32 = 1_024

/// The same socket with a number of at least ``firstRaised``, if the process may have one.
func raised(_ descriptor: Int32) -> Int32 {
    let raised = fcntl(descriptor, F_DUPFD_CLOEXEC, firstRaised)
    guard raised >= 0 else { return descriptor }
    closeOwned(descriptor)
    return raised
}
