import Foundation
import TestSupport
import Testing

/// The compiler, used on small programs as a user of the library would have it: Swift 6, strict memory safety, every
/// warning an error.
struct Compiler {
    private let swiftc: String
    private let options: [String]
    private let directory: TemporaryDirectory

    init() throws {
        swiftc = try ChildProcess.pathOfTool("swiftc")
        directory = try TemporaryDirectory()
        let modules = try ChildProcess.pathOfBuiltModules()
        let map = try ChildProcess.pathInBuildFolder("CLinux.build/module.modulemap", "the module map of CLinux") {
            FileManager.default.fileExists(atPath: $0)
        }
        options = [
            // Not -typecheck: escaping spans and crossed threads are found behind it, in passes over SIL.
            "-emit-sil", "-o", "/dev/null", "-module-name", "Program", "-module-cache-path", "\(directory.path)/cache",
            "-swift-version", "6", "-strict-memory-safety", "-warnings-as-errors", "-diagnostic-style", "llvm",
            "-I", modules, "-I", projectFolder + "Sources/CLibuv", "-Xcc", "-fmodule-map-file=\(map)",
        ]
    }

    /// What the compiler says about a program: its errors, one a line, without the place; nothing if it is accepted.
    func errors(in program: String) throws -> [String] {
        let path = directory.path(of: "program.swift")
        try program.write(toFile: path, atomically: false, encoding: .utf8)
        let child = try ChildProcess(swiftc, options + [path])
        let status = try child.waitForExit(timeLimit: .seconds(120))
        let lines = child.standardErrorText.split(separator: "\n")
        // The errors in the program; a note belongs to the error before it.
        let found = lines.compactMap { line -> String? in
            guard let kind = line.firstRange(of: " error: ") ?? line.firstRange(of: " note: ") else { return nil }
            return line[kind.lowerBound...].dropFirst().description
        }
        let isAccepted = status == .exited(0)
        // An error of another kind, such as a module that is missing, is no refusal of the program.
        guard isAccepted == found.isEmpty, isAccepted || lines.contains(where: { $0.hasPrefix(path) }) else {
            throw PeerError(
                call: "swiftc", cause: .unexpected("\(status), \(child.standardErrorText.prefix(2_000))"),
                waitedFor: "an answer about the program")
        }
        return found
    }
}

let projectFolder =
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path + "/"
