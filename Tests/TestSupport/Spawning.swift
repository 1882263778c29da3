import Glibc
import Synchronization

import class Foundation.ProcessInfo

/// A child just started, and this process's ends of its streams.
struct Spawned: Sendable {
    let pid: pid_t
    let standardInput: Int32
    /// In the order of `ChildProcess.Stream`.
    let outputs: [Int32]
}

/// Held while a descriptor exists that is not yet closed on exec, and while a child is spawned: the child would inherit
/// it, and its peer would never see its end.
private let spawning = Mutex<Void>(())

/// posix_spawn(3) of `command[0]`, with the added environment.
func spawn(_ command: [String], environment: [String: String]) throws -> Spawned {
    // pipe(2) cannot set FD_CLOEXEC (pipe2 is hidden behind `_GNU_SOURCE`): a child that another thread spawns
    // meanwhile would keep this one's pipe open.
    try spawning.withLock { _ in
        let input = try makePair("socketpair") {
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, $0)
        }
        defer { close(input.far) }
        var isStarted = false
        defer { if !isStarted { close(input.near) } }
        let output = try makePair("pipe", pipe)
        defer { close(output.far) }
        defer { if !isStarted { close(output.near) } }
        let error = try makePair("pipe", pipe)
        defer { close(error.far) }
        defer { if !isStarted { close(error.near) } }
        let pid = try start(command, environment, streams: [input.far, output.far, error.far])
        isStarted = true
        return Spawned(pid: pid, standardInput: input.near, outputs: [output.near, error.near])
    }
}

/// Two connected descriptors: `near` stays here, `far` is the child's. Of a pipe, near is the end that reads.
private func makePair(
    _ call: String, _ make: (UnsafeMutablePointer<Int32>) -> Int32
) throws -> (near: Int32, far: Int32) {
    var pair: [Int32] = [-1, -1]
    guard make(&pair) == 0 else { throw PeerError(call, errno: errno, waitedFor: "a stream for a child") }
    for descriptor in pair { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    return (pair[0], pair[1])
}

/// Starts the program with `streams` as its descriptors 0, 1 and 2.
private func start(_ command: [String], _ environment: [String: String], streams: [Int32]) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, stream) in streams.enumerated() {
        posix_spawn_file_actions_adddup2(&actions, stream, Int32(number))
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // An ignored signal stays ignored in the child: it would be proof against SIGPIPE because the tests are.
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigdefault(&attributes, &all)
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))

    let whole = ProcessInfo.processInfo.environment.merging(environment) { _, added in added }
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] = whole.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { (arguments + variables).forEach { free($0) } }
    var pid: pid_t = 0
    let status = posix_spawn(&pid, command[0], &actions, &attributes, &arguments, &variables)
    guard status == 0 else { throw PeerError("posix_spawn", errno: status, waitedFor: command[0]) }
    return pid
}
