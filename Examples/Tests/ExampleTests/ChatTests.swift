import CallbackServer
import ExampleTestSupport
import Foundation
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `Chat` {
    @Test(arguments: Engine.allCases)
    func `what one client says, the others hear, and nobody else`(engine: Engine) throws {
        let chat = try Example("chat", engine)
        let ann = try join(chat, "ann", others: "nobody else")
        let bob = try join(chat, "bob", others: "ann")
        let unnamed = try greeted(chat)
        try ann.expect("* bob joined\n")
        try ann.send("hello\r\n\n\n")
        try bob.expect("<ann> hello\n")
        try bob.send("one\ntwo\nthr")
        try bob.send("ee\n")
        try ann.expect("<bob> one\n<bob> two\n<bob> three\n")
        bob.close()
        try ann.expect("* bob left\n")
        try unnamed.ask("ann\n", "* ann is here already\n")
        chat.child.signal(SIGTERM)
        for client in [ann, unnamed] {
            try client.expect("* the room closes\n")
            try client.expectEnd()
            client.close()
        }
        #expect(try chat.child.waitForExit() == .exited(0))
    }

    @Test(arguments: Engine.allCases)
    func `nc and socat can talk`(engine: Engine) throws {
        let chat = try Example("chat", engine)
        let ann = try join(chat, "ann", others: "nobody else")
        let nc = try run("nc", ["-N", "127.0.0.1", "\(chat.port)"], input: "bob\nfrom nc\n")
        #expect(nc == "Welcome. What is your name?\n* here: ann\n")
        try ann.expect("* bob joined\n<bob> from nc\n* bob left\n")
        _ = try run("socat", ["-t", "10", "-", "TCP:127.0.0.1:\(chat.port)"], input: "eve\nfrom socat\n")
        try ann.expect("* eve joined\n<eve> from socat\n* eve left\n")
        ann.close()
        try chat.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a line that is too long is refused, in one piece or in many, and the next one is heard`(
        engine: Engine
    ) throws {
        let chat = try Example("chat", engine)
        let ann = try join(chat, "ann", others: "nobody else")
        let bob = try join(chat, "bob", others: "ann")
        try ann.expect("* bob joined\n")
        let longest = String(repeating: "x", count: 512)
        try bob.send(longest + "\r\n")
        try ann.expect("<bob> \(longest)\n")
        try bob.ask(longest + "x\n", "* a line has at most 512 bytes\n")
        // Without an end, a thousand times too long: it is told at once, and once.
        for _ in 0..<1_000 { try bob.send(longest) }
        try bob.expect("* a line has at most 512 bytes\n")
        try bob.send("\nshort\n")
        try ann.expect("<bob> short\n")
        ann.close()
        bob.close()
        try chat.stop()
    }

    @Test(arguments: Engine.allCases)
    func `names and lines are kept from the others' terminals if they are not plain`(engine: Engine) throws {
        let chat = try Example("chat", engine)
        let ann = try join(chat, "ann", others: "nobody else")
        let bob = try greeted(chat)
        // Controls; what turns text around; what cannot be seen, alone and behind a letter; too long, also by its
        // marks.
        let names = [
            "", "two words", "\u{1b}[2J", "\u{202e}bob", "b\u{200d}ob", "bob\u{fe0f}", "bo\u{34f}b", "\u{3164}",
            "\u{301}", "back\\slash", String(repeating: "n", count: 21), "n" + String(repeating: "\u{301}", count: 20),
        ]
        for name in names {
            try bob.ask(name + "\n", "* a name is 1 to 20 letters or digits\n")
        }
        try bob.ask("bob\n", "* here: ann\n")
        try bob.send(Array("a\u{1b}[2J\u{9b}b".utf8) + [0, 0xff, 0x0a])
        try ann.expect("* bob joined\n<bob> a\\u{1b}[2J\\u{9b}b\\u{0}\\xff\n")
        try bob.send("\u{2067}na\u{ef}ve \u{6f22}\u{200b}\n")
        try ann.expect("<bob> \\u{2067}na\u{ef}ve \u{6f22}\\u{200b}\n")
        ann.close()
        bob.close()
        try chat.stop()
    }

    /// The flood is far beyond what the kernel and the program keep for one client: they have to wait for `stuck`.
    @Test(arguments: Engine.allCases)
    func `a client that never reads is dropped, and the others lose nothing`(engine: Engine) throws {
        let chat = try Example("chat", engine, ["--patience", "0.5"])
        let ann = try join(chat, "ann", others: "nobody else")
        let stuck = try join(chat, "stuck", others: "ann", receiveBuffer: 4_096)
        let bob = try join(chat, "bob", others: "ann, stuck")
        try ann.expect("* stuck joined\n* bob joined\n")
        let memory = try peakResidentBytes(of: chat.child)
        let line = String(repeating: "y", count: 500) + "\n"
        let count = 40_000
        let author = onThread {
            let lines = String(repeating: line, count: 100)
            for _ in 0..<count / 100 { try bob.send(lines) }
        }
        let notice = "* stuck was too slow\n"
        let expected = String(repeating: "<bob> " + line, count: count)
        let reader = onThread { try ann.receive(exactly: expected.utf8.count + notice.utf8.count) }
        var heard = String(decoding: try reader.value(timeLimit: Example.patience), as: UTF8.self)
        // Somewhere between two lines.
        if let place = heard.range(of: notice) { heard.removeSubrange(place) }
        #expect(heard == expected)
        try author.value()
        #expect(try stuck.receiveUntilOver().ending == .reset)
        // The flood was 20 MB.
        #expect(try peakResidentBytes(of: chat.child) - memory < 10_000_000)
        ann.close()
        bob.close()
        try chat.stop()
    }

    @Test(arguments: Engine.allCases)
    func `resets in the middle of a line disturb nobody`(engine: Engine) throws {
        let chat = try Example("chat", engine)
        let ann = try join(chat, "ann", others: "nobody else")
        for _ in 0..<20 {
            let bob = try join(chat, "bob", others: "ann")
            try bob.send("not finish")
            try bob.reset()
            try ann.expect("* bob joined\n* bob left\n")
        }
        ann.close()
        try chat.stop()
    }

    private func greeted(_ chat: Example, receiveBuffer: Int32? = nil) throws -> PlainClient {
        let client = try chat.client(receiveBuffer: receiveBuffer)
        try client.expect("Welcome. What is your name?\n")
        return client
    }

    private func join(
        _ chat: Example, _ name: String, others: String, receiveBuffer: Int32? = nil
    ) throws -> PlainClient {
        let client = try greeted(chat, receiveBuffer: receiveBuffer)
        try client.ask(name + "\n", "* here: \(others)\n")
        return client
    }
}
