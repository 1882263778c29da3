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
