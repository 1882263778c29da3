import Glibc

/// The compiler, used on small programs as a user of the library would have it: Swift 6, strict memory safety, every
/// warning an error.
public struct Compiler {
    private let swiftc: String
    private let options: [String]
    private let directory: TemporaryDirectory

    /// For programs that use the modules built with the tests, and for package manifests.
    public init() throws {
        swiftc = try ChildProcess.pathOfTool("swiftc")
        directory = try TemporaryDirectory()
        let modules = try ChildProcess.pathOfBuiltModules()
        let map = try ChildProcess.pathInBuildFolder("CLinux.build/module.modulemap", "the module map of CLinux") {
            access($0, F_OK) == 0
        }
        // What SwiftPM shows to manifests only, in usr/lib; the programs are in usr/bin.
        let manifests = ChildProcess.foldersAbove(swiftc)[1] + "/lib/swift/pm/ManifestAPI"
        options = [
            // Not -typecheck: escaping spans and crossed threads are found behind it, in passes over SIL.
            "-emit-sil", "-wmo", "-o", "/dev/null", "-module-name", "Program",
            // The one of the build: to make the modules of Glibc anew takes longer than to compile a program.
            "-module-cache-path", try ChildProcess.pathOfModuleCache(),
            "-swift-version", "6", "-strict-memory-safety", "-warnings-as-errors", "-diagnostic-style", "llvm",
            "-package-description-version", "6.2",
            "-I", modules, "-I", projectFolder + "Sources/CLibuv", "-I", projectFolder + "Sources/COpenSSL",
            "-I", manifests, "-Xcc", "-fmodule-map-file=\(map)",
        ]
    }

    /// What the compiler says about a program: its errors, one a line, without the place; nothing if it is accepted.
    public func errors(in program: String) throws -> [String] {
        let (isAccepted, output) = try compile([program])
        let lines = output.split(separator: "\n")
        // The errors in the program; a note belongs to the error before it.
        let found = lines.compactMap { line -> String? in
            guard let kind = line.firstRange(of: " error: ") ?? line.firstRange(of: " note: ") else { return nil }
            return line[kind.lowerBound...].dropFirst().description
        }
        // An error of another kind, such as a module that is missing, is no refusal of the program.
        guard isAccepted == found.isEmpty, isAccepted || lines.contains(where: { $0.hasPrefix(path(0)) }) else {
            throw PeerError(
                call: "swiftc", cause: .unexpected(String(output.prefix(2_000))),
                waitedFor: "an answer about the program")
        }
        return found
    }

    /// Compiles the files of one program; only a file that is alone may have statements at its top level. Answers
    /// whether it was accepted, and all that the compiler said.
    public func compile(_ files: [String]) throws -> (isAccepted: Bool, output: String) {
        for (index, text) in files.enumerated() { try write(text, to: path(index)) }
        let child = try ChildProcess(swiftc, options + files.indices.map(path))
        let status = try child.waitForExit(timeLimit: .seconds(600))
        return (status == .exited(0), child.standardErrorText)
    }

    private func path(_ index: Int) -> String { directory.path(of: "program\(index).swift") }
}

private func write(_ text: String, to path: String) throws {
    guard let file = fopen(path, "w") else { throw PeerError("fopen", errno: errno, waitedFor: path) }
    defer { fclose(file) }
    guard fputs(text, file) >= 0 else { throw PeerError("fputs", errno: errno, waitedFor: path) }
}

/// The top of the repository, with a closing slash.
public let projectFolder =
    #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/") + "/"
