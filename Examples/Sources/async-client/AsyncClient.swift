import ArgumentParser
import CallbackAsync
import CallbackServer
import ExampleSupport
import Foundation

/// Every bound of the program.
enum Limits {
    /// Bytes of an answer's head, and of what stands between two chunks of its body.
    static let head = 64 * 1024
    /// Bytes of an answer's body.
    static let body = 64 << 20
    /// URLs at a time.
    static let concurrency = 1_000
    /// Seconds for one URL.
    static let timeout = 86_400.0
}

@main
struct AsyncClient: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "async-client", abstract: "Fetches URLs, and tells status, bytes and time of each.")

    @Option(help: ArgumentHelp("Fetch at most N at a time.", valueName: "n"))
    var concurrency = 8

    @Option(help: ArgumentHelp("Give up on a URL after this time.", valueName: "seconds"))
    var timeout = 10.0

    @Option(help: "What waits for events.")
    var engine = Engine.libuv

    @Argument(help: "What to fetch, such as http://example.org/.")
    var urls: [Target]

    func validate() throws {
        guard (1...Limits.concurrency).contains(concurrency) else {
            throw ValidationError("--concurrency \(concurrency) is not between 1 and \(Limits.concurrency)")
        }
        guard (0.001...Limits.timeout).contains(timeout) else {
            throw ValidationError("--timeout \(timeout) is not between 0.001 and \(Int(Limits.timeout)) seconds")
        }
    }

    /// Not `async`: the loop runs on the first thread, and with it the tasks of the main actor.
    func run() throws {
        let failed = try MainActor.assumeIsolated {
            let loop = try EventLoop(engine: engine)
            let client = Client(loop, timeout: .seconds(timeout))
            var failed = 0
            loop.task { failed = await client.fetch(urls, atOnce: concurrency) }
            try loop.run()
            return failed
        }
        if failed > 0 { throw ExitCode.failure }
    }
}

/// Fetches URLs. On the main actor, since the tasks of a group may share only what is an actor's.
@MainActor
final class Client {
    private let loop: EventLoop
    private let timeout: Duration

    init(_ loop: EventLoop, timeout: Duration) {
        self.loop = loop
        self.timeout = timeout
    }

    /// Fetches all, and returns how many have failed.
    func fetch(_ targets: [Target], atOnce limit: Int) async -> Int {
        await withTaskGroup { group in
            var failed = 0
            for (index, target) in targets.enumerated() {
                if index >= limit, await group.next() == false { failed += 1 }
                group.addTask { await self.report(target) }
            }
            for await isFetched in group where !isFetched { failed += 1 }
            return failed
        }
    }

    /// Prints what has become of one URL; returns false if it has failed.
    private func report(_ target: Target) async -> Bool {
        let start = ContinuousClock.now
        do {
            let (status, count) = try await inTime { try await self.get(target) }
            let milliseconds = Int((ContinuousClock.now - start) / .milliseconds(1))
            printLine("\(status), \(count) bytes, \(milliseconds) ms: \(target.text)")
            return true
        } catch {
            printLine("error: \(target.text): \(error)")
            return false
        }
    }

    /// Cancels `body` when the time is over. What it waits for then ends, and its connection is reset.
    private func inTime<Output: Sendable>(
        _ body: @escaping @MainActor () async throws -> Output
    ) async throws -> Output {
        try await withThrowingTaskGroup(of: Output.self) { [timeout] group in
            defer { group.cancelAll() }
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: timeout)
                throw Failure("no whole answer within \(timeout)")
            }
            guard let first = try await group.next() else { throw CancellationError() }
            return first
        }
    }

    private func get(_ target: Target) async throws -> (status: Int, count: Int) {
        var options = EventLoop.ConnectOptions()
        // The time-out above counts.
        options.connection.timeouts.connect = nil
        let connection = try await loop.connect(host: target.host, port: target.port, options: options)
        do {
            try await connection.send(
                "GET \(target.path) HTTP/1.1\r\nHost: \(target.authority)\r\nConnection: close\r\n\r\n")
            var answer = Answer(of: connection)
            let status = try await answer.read()
            connection.close()
            return (status, answer.bodyCount)
        } catch {
            // What is still to come is of no use.
            connection.reset()
            throw error
        }
    }
}
