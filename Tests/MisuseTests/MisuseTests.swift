import Foundation
import TestSupport
import Testing

/// Programs that must not compile against the built modules, each for the right reason, and others that must.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What the compiler refuses` {
    private let compiler: Compiler

    init() throws { compiler = try Compiler() }

    @Test(arguments: Misuse.keepingBytes)
    func `contract 3: keeping the bytes of onData`(misuse: Misuse) throws { try expectRefusal(of: misuse) }

    @Test(arguments: Misuse.crossingThreads)
    func `contract 17: taking an object of a loop to another thread`(misuse: Misuse) throws {
        try expectRefusal(of: misuse)
    }

    @Test(arguments: Misuse.sharing)
    func `contract 17: sharing what is not Sendable with a waker's closure`(misuse: Misuse) throws {
        try expectRefusal(of: misuse)
    }

    @Test func `contract 17: a plain task where no actor is`() throws { try expectRefusal(of: .plainTask) }

    @Test func `unsafe code without saying so`() throws { try expectRefusal(of: .unsafe) }

    @Test func `the documentation shows these messages`() throws {
        let page = "Sources/CallbackServer/CallbackServer.docc/Misuse.md"
        let text = try String(contentsOfFile: projectFolder + page, encoding: .utf8)
        let all = Misuse.keepingBytes + Misuse.crossingThreads + Misuse.sharing + [.plainTask]
        let shown = text.matches(of: /`(error: .+)`/).map { $0.output.1 }
        #expect(shown.count >= 5)
        for message in shown {
            let isTested = all.contains { $0.messages.contains { $0.hasPrefix(message) || message.hasPrefix($0) } }
            #expect(isTested, "\(page): \(message)")
        }
    }

    private func expectRefusal(of misuse: Misuse) throws {
        let errors = try compiler.errors(in: "import CallbackServer\n\n" + misuse.program)
        for message in misuse.messages {
            #expect(errors.contains { $0.hasPrefix(message) }, "\(errors)")
        }
        // One mistake, refused for one reason: nothing else in the program is wrong.
        let first = misuse.messages[0]
        #expect(errors.allSatisfy { $0.hasPrefix("note: ") || $0.hasPrefix(first) || isAccessor($0) }, "\(errors)")
    }

    /// A stored property has two accessors, and each is an error.
    private func isAccessor(_ error: String) -> Bool { error.contains(" accessor cannot return a ~Escapable result") }
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What the compiler accepts, with no unsafe in it` {
    private let compiler: Compiler

    init() throws { compiler = try Compiler() }

    @Test func `a waker, tasks and offloaded work that take copies`() throws {
        let program = """
            import CallbackServer

            func serve(_ connection: Connection, _ loop: EventLoop) {
                let waker = loop.waker
                connection.onData = { connection, bytes in
                    var copy: [UInt8] = []
                    for index in bytes.indices { copy.append(bytes[index]) }
                    let kept = copy
                    waker.execute { print(kept.count) }
                    Task.detached { waker.execute { print(kept.count) } }
                    try? loop.offload({ kept.count }, then: { count in
                        if case .success(let count) = count { connection.write("\\(count)") }
                    })
                    loop.schedule(after: .seconds(1)) { _ in connection.write(kept) }
                }
            }
            """
        #expect(try compiler.errors(in: program) == [])
    }

    @Test func `tasks on the loop, and values that other threads may name`() throws {
        let program = """
            import CallbackServer

            actor Room: LoopActor {
                let loopExecutor: EventLoop.LoopExecutor
                init(_ executor: EventLoop.LoopExecutor) { loopExecutor = executor }
                func name() -> String { "room" }
            }

            func serve(_ connection: Connection, _ loop: EventLoop, _ room: Room) {
                let bound = LoopBound(connection, on: loop)
                Task.detached {
                    bound.execute { $0.write("hello") }
                    print(try await bound.run { $0.bytesRead })
                }
                connection.onData = { connection, bytes in
                    let count = bytes.count
                    connection.task { connection.write("\\(count) \\(await room.name())") }
                    connection.loop.task { connection.end() }
                }
            }
            """
        #expect(try compiler.errors(in: program) == [])
    }

    @Test func `a whole server that uses every callback`() throws {
        #expect(try compiler.errors(in: wholeServer) == [])
    }
}

/// `precondition` says nothing there. The suite in release (`.ci/run`) sees each mistake of `Contract 18`; this is what
/// they all go through, compiled with the optimiser in every run of the tests.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What an optimised program says before it traps` {
    @Test func `is one line with the value`() throws {
        let directory = try TemporaryDirectory()
        let program = """
            @main struct Program {
                static func main() {
                    let delay = Duration.milliseconds(-CommandLine.arguments.count)
                    require(CommandLine.arguments.count > 0, "never said")
                    require(delay >= .zero, "the delay \\(delay) is negative")
                }
            }
            """
        try write(program, to: directory.path(of: "program.swift"))
        let compiler = try ChildProcess(
            ChildProcess.pathOfTool("swiftc"),
            [
                "-O", "-parse-as-library", "-package-name", "program", "-module-name", "Program",
                "-module-cache-path", ChildProcess.pathOfModuleCache(), "-o", directory.path(of: "program"),
                projectFolder + "Sources/CallbackModel/Core/Mistake.swift", directory.path(of: "program.swift"),
            ])
        let status = try compiler.waitForExit(timeLimit: .seconds(600))
        #expect(status == .exited(0), "\(compiler.standardErrorText)")
        let child = try ChildProcess(directory.path(of: "program"), environment: ["SWIFT_BACKTRACE": "enable=no"])
        let ending = try child.waitForExit()
        #expect(ending == .signalled(SIGILL) || ending == .signalled(SIGTRAP), "\(ending)")
        let said = child.standardErrorText
        #expect(said.hasSuffix("the delay -0.001 seconds is negative\n"), "\(said)")
        #expect(said.split(separator: "\n").count == 1, "\(said)")
    }

    private func write(_ text: String, to path: String) throws { try Data(text.utf8).write(to: URL(filePath: path)) }
}

private let wholeServer = """
    import CallbackServer

    final class Chat {
        private var members: [ObjectIdentifier: Connection] = [:]
        private var lastWords: [UInt8] = []

        func join(_ connection: Connection) {
            members[ObjectIdentifier(connection)] = connection
            connection.onData = { [self] speaker, bytes in
                lastWords = []
                for index in bytes.indices { lastWords.append(bytes[index]) }
                for member in members.values where member !== speaker {
                    if member.write(bytes) == .saturated { speaker.pause() }
                }
            }
            connection.onDrain = { [self] _ in members.values.forEach { $0.resume() } }
            connection.onTimeout = { _, kind in kind == .idle ? .close : .keep }
            connection.onEnd = { connection in connection.write("bye") { _ in print("sent") } }
            connection.onClose = { [self] connection, _ in members[ObjectIdentifier(connection)] = nil }
        }
    }

    func main() throws(IOError) {
        let loop = try EventLoop()
        let chat = Chat()
        let listener = try loop.listen(on: .ipv4("127.0.0.1", port: 0), onConnection: chat.join)
        listener.onShed = { _, shed in print(shed.count) }
        listener.onError = { _, error in print(error) }
        try loop.onSignal(.terminate) { [weak loop] _ in
            listener.drain(within: .seconds(5)) { report in
                print(report.finished)
                loop?.stop()
            }
        }
        let other = try loop.connect(host: "localhost", port: listener.localAddress.port ?? 0)
        other.onOpen = { $0.write(["hello ", "world"].map { Array($0.utf8) }) }
        let third = try loop.connect(to: listener.localAddress)
        third.pipe(to: other)
        try loop.run()
    }
    """
