import Foundation
import Testing

/// The rules of CONTRIBUTING.md that a program can check. A failure names the file and the line.
@Suite struct `The project stays tidy` {
    @Test func `files fit one sitting`() throws {
        for file in try swiftFiles("Sources") + swiftFiles("Tests") {
            let limit = file.name.hasSuffix("Poller.swift") ? 200 : 400
            #expect(
                file.lines.count <= limit, "\(file.path) has \(file.lines.count) lines, at most \(limit) are readable")
        }
    }

    @Test func `lines fit the screen, comments too`() throws {
        for folder in ["Sources", "Tests", "Benchmarks/Sources", "Benchmarks/Tests", "Examples/Sources"] {
            for file in try swiftFiles(folder) {
                // Bytes are counted quickly, and are at least as many.
                for (number, line) in file.lines.enumerated() where line.utf8.count > 120 && line.count > 120 {
                    Issue.record("\(file.path):\(number + 1): \(line.count) columns, at most 120 fit")
                }
            }
        }
    }

    @Test func `the model has a folder for each subject`() throws {
        let subjects = ["Addresses", "Connection", "Core", "Drivers", "Framing", "Group", "Listener", "Loop"]
        let folder = "Sources/CallbackModel"
        #expect(try FileManager.default.contentsOfDirectory(atPath: root + folder).sorted() == subjects)
    }

    @Test func `functions fit a screen`() throws {
        for file in try swiftFiles("Sources") + swiftFiles("Tests") {
            for function in functions(in: file) where function.length > 60 {
                Issue.record("\(file.path):\(function.line): \(function.length) lines, at most 60 fit a screen")
            }
        }
    }

    @Test func `tests that wait do so on threads of their own`() throws {
        for file in try swiftFiles("Tests") where file.name != "TidyTests.swift" {
            for (number, line) in file.code where line.contains("@Suite") && line.contains(".timeLimit(") {
                #expect(line.contains(".onOwnThread"), "\(file.path):\(number): the suite's tests hold up all others")
            }
        }
    }

    @Test func `escape hatches are listed with their reason`() throws {
        let hatches = [
            "@unchecked Sendable", "nonisolated(unsafe)", "try!", "fatalError(", "usleep(", "Thread.sleep",
            ".disabled(",
            "XCTSkip", "TODO", "FIXME", "unowned(unsafe)",
        ]
        // file → what is allowed there, and why.
        let allowed: [String: (hatch: String, reason: String)] = [
            "Sources/CallbackModel/Core/Mistake.swift": ("fatalError(", "where every mistake of a caller is told"),
            "Sources/CallbackModel/Core/LoopOnly.swift": (
                "nonisolated(unsafe)", "what crosses threads and is opened by one"
            ),
            "Tests/TestSupport/Monitor.swift": ("@unchecked Sendable", "its state is behind a pthread mutex"),
            "Tests/ContractTests/Clauses/Contract17MisuseTests.swift": (
                "nonisolated(unsafe)", "does what the compiler refuses, to see the trap of debug builds"
            ),
        ]
        for file in try swiftFiles("Sources") + swiftFiles("Tests") where file.name != "TidyTests.swift" {
            for hatch in hatches where file.has(hatch) && allowed[file.path]?.hatch != hatch {
                for (number, line) in file.code where line.contains(hatch) {
                    Issue.record("\(file.path):\(number): \(hatch) needs a line in the list of this test")
                }
            }
        }
        for path in allowed.keys { #expect(FileManager.default.fileExists(atPath: root + path), "\(path) has gone") }
    }

    @Test func `unsafe only becomes rarer`() throws {
        // module → how often its code says `unsafe`. A number may only fall.
        let most = [
            "AsyncParity": 0, "Breakable": 0, "CallbackAsync": 5, "CallbackModel": 170, "CallbackServer": 0,
            "CallbackTLS": 233,
            "FaultKit": 19,
            "LibuvEngine": 219,
            "LinuxSockets": 31,
            "ParityKit": 50, "RandomCalls": 9, "ReadinessEngine": 67, "TLSParity": 70, "echo": 2, "parity": 29,
        ]
        var counts: [String: Int] = [:]
        for file in try swiftFiles("Sources") {
            counts[file.module, default: 0] += file.code.map { $0.1.matches(of: /\bunsafe\b/).count }.reduce(0, +)
        }
        for (module, count) in counts {
            let limit = try #require(most[module], "\(module) is not in the list of this test")
            #expect(count <= limit, "\(module) has \(count - limit) more than the \(limit) in the list of this test")
            #expect(count >= limit, "\(module) has \(count), so lower the \(limit) in the list of this test")
        }
    }

    /// `precondition` drops its sentence in a release build, which is what users run.
    @Test func `a mistake is told in release builds too`() throws {
        for file in try swiftFiles("Sources") {
            guard file.has("precondition") else { continue }
            for (number, line) in file.code where line.contains(/\bprecondition(Failure)?\(/) {
                Issue.record("\(file.path):\(number): precondition says nothing in a release build; use `require`")
            }
        }
    }

    @Test func `arrows between the modules point one way`() throws {
        // module → what its files may import, beside the standard library, Glibc and Synchronization.
        let arrows: [String: Set<String>] = [
            "CallbackModel": ["CLinux"],
            "LinuxSockets": ["CallbackModel", "CLinux"],
            "LibuvEngine": ["CallbackModel", "CLibuv", "CLinux", "LinuxSockets"],
            "ReadinessEngine": ["CallbackModel", "CLinux", "LinuxSockets"],
            "CallbackServer": ["CallbackModel", "LibuvEngine", "ReadinessEngine"],
            "CallbackAsync": ["CallbackModel"],
            "CallbackTLS": ["CallbackModel", "COpenSSL"],
            "echo": ["CallbackServer", "ArgumentParser"],
            "parity": [
                "AsyncParity", "CallbackServer", "CallbackTLS", "ParityKit", "FaultKit", "RandomCalls", "TLSParity",
                "ArgumentParser",
            ],
            "TLSParity": ["CallbackModel", "CallbackTLS", "COpenSSL", "ParityKit"],
            "RandomCalls": ["CallbackModel", "ParityKit"],
            "AsyncParity": ["CallbackAsync", "CallbackModel", "ParityKit"],
            "Breakable": ["CallbackModel", "CLinux", "FaultKit", "ParityKit"],
            "FaultKit": ["CallbackModel", "ParityKit"],
            "ParityKit": ["CallbackModel", "CLinux"],
        ]
        for file in try swiftFiles("Sources") {
            let module = file.module
            let mayImport = try #require(arrows[module], "\(module) is not in the list of this test")
            for (number, line) in file.code {
                let words = line.split(separator: " ")
                guard let position = words.firstIndex(of: "import"), words.count > position + 1 else { continue }
                guard words[..<position].allSatisfy(isImportModifier) else { continue }
                let imported = String(words[position + 1].split(separator: ".")[0])
                if ["Glibc", "Synchronization"].contains(imported) { continue }
                #expect(mayImport.contains(imported), "\(file.path):\(number): \(module) may not import \(imported)")
            }
        }
    }

    @Test func `the contract's table has every clause and names files that are there`() throws {
        let page = "Sources/CallbackServer/CallbackServer.docc/CallbackContract.md"
        let text = try String(contentsOfFile: root + page, encoding: .utf8)
        var named: [Int: Set<String>] = [:]
        for row in text.matches(of: /(?m)^\| (\d+) \|(.*)$/) {
            let clause = try #require(Int(row.output.1))
            #expect(named[clause] == nil, "\(page): clause \(clause) has two rows")
            named[clause] = Set(row.output.2.matches(of: /`([^`]+\.swift)`/).map { String($0.output.1) })
        }
        #expect(named.keys.sorted() == Array(1...19))
        for (clause, files) in named {
            #expect(!files.isEmpty, "\(page): no test for clause \(clause)")
            for file in files {
                #expect(FileManager.default.fileExists(atPath: root + "Tests/" + file), "\(page) names \(file)")
            }
        }
        // And what is named by a clause's number is in its row.
        for file in try swiftFiles("Tests/ContractTests") {
            guard let match = file.name.firstMatch(of: /^Contract(\d\d)/), let clause = Int(match.output.1) else {
                continue
            }
            let row = named[clause] ?? []
            #expect(row.contains("ContractTests/Clauses/" + file.name), "\(page): clause \(clause) lacks \(file.name)")
        }
    }

    @Test func `no page tells where it was written`() throws {
        for file in try swiftFiles("Sources") + swiftFiles("Tests") where file.name != "TidyTests.swift" {
            for place in ["/home/", "/root/", "/Users/"] {
                #expect(!file.has(place), "\(file.path): \(place), a path of one machine")
            }
        }
    }
}

private func isImportModifier(_ word: Substring) -> Bool {
    ["public", "package", "internal", "private", "@_exported", "@testable"].contains(word) || word.hasPrefix("@_spi")
}

// MARK: - Reading the sources

private let root =
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path + "/"

private struct SourceFile {
    let path: String
    let text: String
    let lines: [String]

    /// Quicker than `contains`, which compares characters.
    func has(_ word: String) -> Bool { strstr(text, word) != nil }

    var name: String { String(path.split(separator: "/").last ?? "") }

    /// Of a file in Sources.
    var module: String {
        let folders = path.split(separator: "/").dropFirst().map(String.init)
        return folders[0] == "Verification" ? folders[1] : folders[0]
    }

    /// The lines that are code, with their numbers from 1.
    var code: [(Int, String)] {
        lines.enumerated().map { ($0.offset + 1, $0.element) }.filter {
            !$0.1.drop { $0 == " " }.hasPrefix("//")
        }
    }
}

private func swiftFiles(_ folder: String) throws -> [SourceFile] {
    let all = try FileManager.default.subpathsOfDirectory(atPath: root + folder)
    let files = try all.filter { $0.hasSuffix(".swift") }.sorted().map { path in
        let text = try String(contentsOfFile: root + folder + "/" + path, encoding: .utf8)
        return SourceFile(
            path: folder + "/" + path, text: text,
            lines: text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init))
    }
    #expect(!files.isEmpty, "no Swift file in \(folder)")
    return files
}

/// Functions, initializers and accessors by their braces' indentation, which the formatter guarantees.
private func functions(in file: SourceFile) -> [(line: Int, length: Int)] {
    var found: [(Int, Int)] = []
    for (index, line) in file.lines.enumerated() {
        let code = line.drop { $0 == " " }
        let indentation = line.count - code.count
        let isFunction = code.contains("func ") || code.contains("init(") || code.hasPrefix("deinit")
        guard isFunction, line.hasSuffix("{") || line.hasSuffix("(") else { continue }
        let margin = String(repeating: " ", count: indentation)
        if line.hasSuffix("(") {
            // The body of a signature of several lines begins where the signature ends, or there is none.
            let rest = file.lines[(index + 1)...]
            guard let end = rest.first(where: { $0.hasPrefix(margin + ")") }), end.hasSuffix("{") else { continue }
        }
        let closing = margin + "}"
        guard let end = file.lines[(index + 1)...].firstIndex(of: closing) else { continue }
        found.append((index + 1, end - index + 1))
    }
    return found
}
