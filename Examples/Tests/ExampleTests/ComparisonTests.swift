import CallbackServer
import ExampleTestSupport
import Foundation
import Testing

/// The programs beside somebody else's reading of the same input. The scripts tell what is compared, and list each
/// difference that stays, with its reason; what they find besides fails.
@Suite(.timeLimit(.minutes(20)))
struct `Comparisons` {
    /// On each engine with other input: 10,000 in all.
    private static let rounds = Array(zip(Engine.allCases, 1...))

    @Test(arguments: rounds)
    func `keyvalue answers generated commands as a Redis server does`(engine: Engine, seed: Int) throws {
        _ = try tool("redis-server")
        let output = try compare("keyvalue", engine, seed)
        #expect(output.contains(/[0-9]{4,} replies, .*: 0 differences without a known reason/), "\(output)")
    }

    @Test(arguments: rounds)
    func `http-hello takes and refuses generated requests as h11 and the grammar do`(engine: Engine, seed: Int) throws {
        let output = try compare("http-hello", engine, seed)
        #expect(output.contains(/2500 requests .*: 0 differences without a known reason/), "\(output)")
    }

    private func compare(_ name: String, _ engine: Engine, _ seed: Int) throws -> String {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Comparisons/\(name).py").path
        let program = try ChildProcess.pathOfBuiltProduct(name)
        let options = ["--engine", engine.rawValue, "--count", "2500", "--seed", "\(seed)"]
        let child = try ChildProcess(try tool("python3"), [script, program] + options)
        try child.standardInput.halfClose()
        let ended = try child.waitForExit(timeLimit: Example.patience)
        #expect(ended == .exited(0), "\(child.standardOutputText) \(child.standardErrorText)")
        return child.standardOutputText
    }
}
