import CallbackServer
import Foundation
import TestSupport
import Testing

/// What each public call and property does in each state must be the same on every engine.
///
/// The state of the suite's own process is looked at: signals are everybody's.
@Suite(.timeLimit(.minutes(20)), .onOwnThread, .heavy)
struct `Every call in every state` {
    /// Cells that differ, and why. <doc:EnginesAndParity> tells users of both.
    private static let reasons: [String: String] = {
        let order = "libuv calls back what closes in one turn in reverse order (uv__make_close_pending)"
        let overtaken = "libuv sends FIN where the turn goes on, so that a reset in the same callback is before it"
        return [
            "with a client: drain": order, "draining, with a client: drain": order,
            "ended, in the same turn: reset": overtaken, "with input: end, close, reset": overtaken,
            "paused, with input: end, close, reset": overtaken,
        ]
    }()

    private func compare(
        atLeast count: Int, sourceLocation: SourceLocation = #_sourceLocation,
        _ play: (Engine, _ only: String?) throws -> [String: String]
    ) rethrows {
        let tables = try Engine.allCases.map { ($0, try play($0, nil)) }
        let first = tables[0].1
        #expect(first.count >= count, sourceLocation: sourceLocation)
        for (cell, text) in first.sorted(by: { $0.key < $1.key }) where Self.reasons[cell] == nil {
            let isPlayed = !text.contains("cannot be played") && !text.contains("was never called")
            #expect(isPlayed, "\(cell): \(text)", sourceLocation: sourceLocation)
            for (engine, table) in tables.dropFirst() where table[cell] != text {
                // A busy machine may be late to bring a FIN to its peer.
                if try (0..<5).contains(where: { _ in try play(engine, cell) == play(Engine.allCases[0], cell) }) {
                    continue
                }
                Issue.record(
                    "\(cell)\n  \(Engine.allCases[0]): \(text)\n  \(engine): \(table[cell] ?? "no such cell")",
                    sourceLocation: sourceLocation)
            }
        }
    }

    @Test func `of a TCP connection is the same on every engine`() throws {
        let states = connectingStates() + restingStates(openTCP) + callbackStates(openTCP)
        try compare(atLeast: 500) { try cells($0, states, connectionCalls, only: $1) }
    }

    @Test func `of a Unix connection is the same on every engine`() throws {
        let states = restingStates(openUnix) + callbackStates(openUnix)
        try compare(atLeast: 500) { try cells($0, states, connectionCalls, only: $1) }
    }

    @Test func `of a listener is the same on every engine`() throws {
        try compare(atLeast: 100) { try cells($0, listenerStates(), listenerCalls, only: $1) }
    }

    @Test func `of a timer is the same on every engine`() throws {
        try compare(atLeast: 100) { try cells($0, timerStates(), timerCalls, only: $1) }
    }

    @Test func `of a signal watcher is the same on every engine`() throws {
        try compare(atLeast: 25) { try cells($0, watcherStates(), watcherCalls, only: $1) }
    }

    @Test func `of a loop and its waker is the same on every engine`() throws {
        try compare(atLeast: 100) { try cells($0, loopStates(), loopCalls, only: $1) }
    }

    // MARK: Nothing is left out

    /// The types of the table, and what of them it leaves out.
    private static let types: [String: Set<String>] = [
        // Which connection it is does not change.
        "Connection": ["==", "hash"], "Listener": [], "Timer": [], "SignalWatcher": [], "Waker": [],
        "Hold": [], "LoopBound": [],
        // `run` is what plays every cell; the descriptor limit is no loop's.
        "EventLoop": ["run", "raiseDescriptorLimit"],
    ]

    @Test func `has every public call and property`() throws {
        let named = Set(
            (connectionCalls.map(\.name) + listenerCalls.map(\.name) + timerCalls.map(\.name)
                + watcherCalls.map(\.name) + loopCalls.map(\.name))
                .flatMap { $0.split { !$0.isLetter }.map(String.init) })
        var count = 0
        let here = URL(filePath: #filePath).deletingLastPathComponent()
        let folder = here.appending(path: "../../../Sources/CallbackModel")
        let files = try #require(FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil))
        for case let file as URL in files where file.pathExtension == "swift" {
            for (type, member) in publicMembers(try String(contentsOf: file, encoding: .utf8)) {
                guard let excepted = Self.types[type], !excepted.contains(member) else { continue }
                count += 1
                #expect(named.contains(member), "\(type).\(member) in \(file.lastPathComponent) is not in the table")
            }
        }
        #expect(count > 50)
    }

    /// Each member that is declared public, with the innermost type around it, as the indentation tells.
    private func publicMembers(_ code: String) -> [(type: String, member: String)] {
        var types: [(indentation: Int, name: String)] = []
        var members: [(String, String)] = []
        for line in code.split(separator: "\n") {
            let indentation = line.prefix { $0 == " " }.count
            let words = line.split { $0 == " " || $0 == ":" || $0 == "(" || $0 == "<" || $0 == "{" }.map(String.init)
            while let last = types.last, last.indentation >= indentation, line != "" { types.removeLast() }
            if let place = words.firstIndex(where: { ["class", "struct", "enum", "extension"].contains($0) }),
                !line.trimmingPrefix(while: { $0 == " " }).hasPrefix("//"), words.count > place + 1
            {
                types.append((indentation, words[place + 1].split(separator: ".").last.map(String.init) ?? ""))
            } else if line.trimmingPrefix(while: { $0 == " " }).hasPrefix("public "),
                let place = words.firstIndex(where: { ["var", "let", "func"].contains($0) }), words.count > place + 1,
                let type = types.last?.name
            {
                members.append((type, words[place + 1]))
            }
        }
        return members
    }
}
