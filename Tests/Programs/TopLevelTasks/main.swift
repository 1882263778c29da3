import CallbackServer
import Glibc

// A server whose answers come from an actor, in top-level code. `Tests/ContractTests/Topics/MainActorTests.swift` runs
// it. AsyncMainTasks and DefaultIsolationTasks are the same server: code that they shared would have one isolation.

actor Answers {
    private var count = 0

    func next() async -> String {
        count += 1
        await Task.yield()
        return "answer \(count)\n"
    }
}

let answers = Answers()

do {
    let loop = try EventLoop(engine: Engine(rawValue: CommandLine.arguments[1]) ?? .libuv)
    let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0)) { connection in
        connection.onData = { connection, bytes in
            Task { connection.write(await answers.next()) }
        }
        connection.onClose = { connection, _ in connection.listener?.close() }
    }
    print("Listening on port \(listener.localAddress.port ?? 0)")
    fflush(nil)
    try loop.run()
} catch {
    print(error)
}
