import CNames
import CallbackServer
import Glibc

// What the main actor's tasks and a loop on the first thread do to each other: `MainQueue <engine> <scenario>`.
// `Tests/ContractTests/Topics/MainActorTests.swift` runs it and knows what has to be printed.

let engine = Engine(rawValue: CommandLine.arguments[1]) ?? .libuv
var notes: [String] = []

func note(_ text: String) { notes.append(text) }

/// At once, also into a pipe.
func tell(_ line: String) {
    print(line)
    fflush(nil)
}

func makeLoop() throws -> EventLoop {
    var options = EventLoop.Options()
    options.collectsMetrics = true
    return try EventLoop(engine: engine, options: options)
}

/// 100,000 tasks, begun by 100 callbacks; the last that ends stops the loop.
func many() throws {
    let loop = try makeLoop()
    let (callbacks, each) = (100, 1_000)
    var (begun, ended) = (0, 0)
    loop.schedule(after: .zero, repeating: .milliseconds(1)) { timer in
        for _ in 0..<each {
            Task {
                await Task.yield()
                ended += 1
                if ended == callbacks * each { loop.stop() }
            }
        }
        begun += 1
        if begun == callbacks { timer.cancel() }
    }
    // Tasks do not keep the loop running.
    let keeper = loop.schedule(after: .seconds(300)) { _ in loop.stop() }
    try loop.run()
    note("ended \(ended)")
    keeper.cancel()
}

/// A task that begins itself again and again beside a timer, and a callback that asks for turn after turn.
func fair() throws {
    let loop = try makeLoop()
    var (tasks, ticks, turns, isOver) = (0, 0, 0, false)
    func again() {
        tasks += 1
        if !isOver { Task { again() } }
    }
    Task { again() }
    func turn(_ timer: EventLoop.Timer) {
        turns += 1
        if !isOver { timer.reschedule(after: .zero) }
    }
    loop.schedule(after: .zero) { turn($0) }
    loop.schedule(after: .milliseconds(1), repeating: .milliseconds(1)) { timer in
        ticks += 1
        isOver = ticks == 50
        if isOver { timer.cancel() }
    }
    try loop.run()
    let isOne = tasks * 2 > turns && tasks < turns * 2
    note("ticks \(ticks), tasks for a turn: \(isOne ? "one" : "\(tasks) in \(turns)")")
}

/// What is left when nothing else keeps the loop running.
func end() throws {
    let loop = try makeLoop()
    Task { note("queued before run") }
    loop.schedule(after: .milliseconds(1)) { _ in
        Task {
            note("queued by the last callback")
            loop.schedule(after: .milliseconds(1)) { _ in
                Task {
                    note("queued by the last of all")
                    Task { note("left for the next run") }
                }
            }
        }
    }
    try loop.run()
    note("run has returned")
    try loop.run()
    for mode in [EventLoop.RunMode.once, .noWait] {
        Task { note("a turn: \(mode)") }
        try loop.run(mode)
    }
    Task { loop.stop() }
    let keeper = loop.schedule(after: .seconds(300)) { _ in note("nothing has stopped the loop") }
    try loop.run()
    keeper.cancel()
    loop.schedule(after: .milliseconds(1)) { _ in Task { loop.stop() } }
    try loop.run()
    loop.schedule(after: .milliseconds(1)) { _ in note("a stop at the end of a run ends no other") }
    try loop.run()
    loop.onSlowCallback(longerThan: .nanoseconds(1)) { note("measured as \($0.kind)") }
    Task {}
    try loop.run()
}

/// On another thread tasks wait, and the loop does not spin because of them.
func thread() throws {
    let loop = try makeLoop()
    Task { note("on the first thread") }
    try loop.run()
    Task { note("on the first thread again") }
    waitLong(on: loop)
    let before = loop.metrics.turns
    runElsewhere(loop)
    note("turns elsewhere: \(loop.metrics.turns - before < 20 ? "few" : "\(loop.metrics.turns - before)")")
    try loop.run()
}

// Not of the main actor, since the callback runs on another thread.
nonisolated func waitLong(on loop: EventLoop) { loop.schedule(after: .milliseconds(100)) { _ in } }

nonisolated func runElsewhere(_ loop: EventLoop) {
    var other = pthread_t()
    pthread_create(
        &other, nil,
        { address in
            do { try Unmanaged<EventLoop>.fromOpaque(address!).takeUnretainedValue().run() } catch { print(error) }
            return nil
        }, Unmanaged.passUnretained(loop).toOpaque())
    pthread_join(other, nil)
}

/// A loop that is run inside a callback of another serves tasks; inside a task it cannot.
func nested() throws {
    let outer = try makeLoop()
    outer.schedule(after: .zero) { _ in
        Task { note("in a callback's inner run") }
        do { try makeLoop().run() } catch { print(error) }
        note("the inner run has returned")
    }
    try outer.run()
    Task {
        Task { note("after the task") }
        do { try makeLoop().run() } catch { print(error) }
        note("the task's run has returned")
    }
    outer.schedule(after: .milliseconds(1)) { _ in }
    try outer.run()
    try outer.run()
}

/// Tasks that are begun on the loop are the main actor's here. They hold the loop; one that outlives it does no harm.
func held() throws {
    var loop: EventLoop? = try makeLoop()
    loop?.task {
        try? await Task.sleep(for: .milliseconds(20))
        note("held the loop")
    }
    try loop?.run()
    note("run has returned")
    let late = loop?.task {
        try? await Task.sleep(for: .seconds(300))
        note("cancelled: \(Task.isCancelled)")
    }
    try loop?.run(.noWait)
    loop = nil
    note("the loop has gone")
    let next = try makeLoop()
    next.task { await late?.value }
    try next.run()
}

/// A child of fork(2) has no main actor: it leaves the parent's tasks and their descriptor alone.
func forked() throws {
    Task { note("in the parent") }
    let loop = try makeLoop()
    let child = names_fork()
    if child == 0 { _exit(runInChild()) }
    var status: Int32 = 0
    waitpid(child, &status, 0)
    note("the child: \(status >> 8)")
    try loop.run()
}

// Not of the main actor, which the child does not have.
nonisolated func runInChild() -> Int32 {
    do {
        let loop = try EventLoop(engine: Engine(rawValue: CommandLine.arguments[1]) ?? .libuv)
        loop.schedule(after: .milliseconds(5)) { _ in }
        try loop.run()
        return 7
    } catch {
        return 1
    }
}

/// Two loops take turns on one thread: each finds what was queued while the other ran.
func turns() throws {
    let loops = [try makeLoop(), try makeLoop()]
    for number in 0..<6 {
        Task { note("task \(number)") }
        try loops[number % 2].run(.noWait)
    }
}

/// A server that begins a task for each of 1,000 answers; what they write leaves together.
func batch() throws {
    let loop = try makeLoop()
    let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
        connection.onData = { connection, bytes in
            for _ in 0..<1_000 { Task { connection.write([UInt8](repeating: 0x61, count: 16)) } }
        }
        connection.onClose = { connection, _ in connection.listener?.close() }
    }
    tell("Listening on port \(listener.localAddress.port ?? 0)")
    try loop.run()
}

/// An echo server. From the first `T` that it receives on, it begins 200 tasks a millisecond, each of which waits once.
func beside() throws {
    let loop = try makeLoop()
    let wanted = Int(CommandLine.arguments[3]) ?? 0
    var (begun, ended) = (0, 0)
    func begin(_ timer: EventLoop.Timer) {
        for _ in 0..<min(200, wanted - begun) {
            begun += 1
            Task {
                await Task.yield()
                ended += 1
                if ended == wanted { tell("ended \(ended)") }
            }
        }
        if begun == wanted { timer.cancel() }
    }
    let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
        connection.onData = { connection, bytes in
            connection.write(bytes)
            guard bytes[0] == UInt8(ascii: "T"), begun == 0 else { return }
            loop.schedule(after: .zero, repeating: .milliseconds(1)) { begin($0) }
        }
        connection.onClose = { connection, _ in connection.listener?.close() }
    }
    tell("Listening on port \(listener.localAddress.port ?? 0)")
    try loop.run()
}

do {
    switch CommandLine.arguments[2] {
    case "many": try many()
    case "fair": try fair()
    case "end": try end()
    case "thread": try thread()
    case "nested": try nested()
    case "held": try held()
    case "forked": try forked()
    case "turns": try turns()
    case "batch": try batch()
    case "beside": try beside()
    case let other: print("no scenario \(other)")
    }
    for note in notes { print(note) }
} catch {
    print(error)
}
