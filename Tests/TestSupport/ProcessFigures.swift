import Glibc

/// The memory of a process that is in RAM, in bytes: the second field of /proc/PID/statm (proc(5)).
public func residentBytes(of pid: pid_t = getpid()) throws -> Int {
    let path = "/proc/\(pid)/statm"
    let fields = try contents(ofFile: path).split(separator: " ")
    guard fields.count > 1, let pages = Int(fields[1]) else { throw malformed(path) }
    return pages * sysconf(Int32(_SC_PAGESIZE))
}

/// The time that all threads of a process have run, user and system: fields 14 and 15 of /proc/PID/stat.
///
/// In seconds, in steps of a clock tick (10 ms).
public func cpuSeconds(of pid: pid_t = getpid()) throws -> Double {
    let path = "/proc/\(pid)/stat"
    let text = try contents(ofFile: path)
    // The second field is the program's name, which may itself hold spaces and parentheses.
    guard let name = text.lastIndex(of: ")") else { throw malformed(path) }
    let fields = text[text.index(after: name)...].split(separator: " ")
    guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else {
        throw malformed(path)
    }
    return Double(user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
}

/// The descriptors that this process has open, each with what it is: `socket:[1234]`, `/dev/null`.
///
/// Without timerfd_create(2)'s: the library has none, and libdispatch makes one when it first arms a time limit.
/// Under a sanitizer without pipes: it talks through two with the program that finds the names of functions, from the
/// first report on, also of one that is suppressed.
public func openDescriptors() throws -> [Int32: String] {
    let (names, own) = try entries(ofDirectory: "/proc/self/fd")
    var descriptors: [Int32: String] = [:]
    for number in names.compactMap({ Int32($0) }) where number != own {
        let name = target(ofLink: "/proc/self/fd/\(number)") ?? "closed meanwhile"
        if name == "anon_inode:[timerfd]" || isSanitized && name.hasPrefix("pipe:") { continue }
        descriptors[number] = name
    }
    return descriptors
}

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

private func malformed(_ path: String) -> PeerError {
    PeerError(call: "read", cause: .unexpected("unknown text"), waitedFor: "the fields of \(path)")
}

/// The names of the threads of a process (pthread_setname_np(3)).
public func threadNames(of pid: pid_t = getpid()) throws -> [String] {
    let (numbers, _) = try entries(ofDirectory: "/proc/\(pid)/task")
    return numbers.compactMap { Int32($0) }.compactMap { number in
        // One that has ended meanwhile has no file.
        (try? contents(ofFile: "/proc/\(pid)/task/\(number)/comm"))?.split(separator: "\n").first.map(String.init)
    }
}
