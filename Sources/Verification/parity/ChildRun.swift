import Glibc

/// A process whose standard output comes here, line by line.
struct ChildRun {
    private let pid: pid_t
    private let output: Int32

    /// Starts a program, its path first, with additions to the environment.
    init(_ command: [String], _ additions: [String: String]) throws(FaultsError) {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { throw FaultsError.failed("pipe", errno) }
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        unsafe posix_spawn_file_actions_addclose(&actions, ends[1])
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        var variables: [String] = []
        var next = unsafe environ
        while let variable = unsafe next.pointee {
            let text = unsafe String(cString: variable)
            if !additions.keys.contains(where: { text.hasPrefix($0 + "=") }) { variables.append(text) }
            unsafe next += 1
        }
        variables += additions.map { "\($0)=\($1)" }
        let arguments = CStrings(command)
        let environment = CStrings(variables)
        var pid: pid_t = 0
        let status = unsafe posix_spawn(&pid, command[0], &actions, nil, arguments.pointers, environment.pointers)
        _ = close(ends[1])
        guard status == 0 else {
            _ = close(ends[0])
            throw FaultsError.failed("posix_spawn", status)
        }
        self.pid = pid
        output = ends[0]
    }

    /// Hands on its lines until it ends; the exit status, or the signal.
    func run(_ line: (String) -> Void) -> String {
        var pending: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = unsafe read(output, &room, room.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            pending += room[..<count]
            while let end = pending.firstIndex(of: 10) {
                line(String(decoding: pending[..<end], as: UTF8.self))
                pending.removeFirst(end + 1)
            }
        }
        _ = close(output)
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
        // WTERMSIG and WEXITSTATUS of wait(2), which are macros.
        let signal = status & 0x7F
        return signal == 0 ? "\((status >> 8) & 0xFF)" : "signal \(signal)"
    }
}

/// An array of C strings with NULL behind the last, as exec(3) wants it.
@safe private final class CStrings {
    private(set) var pointers: [UnsafeMutablePointer<CChar>?]

    init(_ strings: [String]) {
        unsafe pointers = strings.map { unsafe strdup($0) } + [nil]
    }

    deinit {
        unsafe pointers.forEach { unsafe free($0) }
    }
}
