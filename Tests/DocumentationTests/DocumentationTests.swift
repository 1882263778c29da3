import Foundation
import TestSupport
import Testing

/// What the pages and the comments promise, held against the toolchain.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The documentation` {
    @Test func `has no link that leads nowhere, and a summary of everything public`() throws {
        let directory = try TemporaryDirectory()
        let modules = try ChildProcess.pathOfBuiltModules()
        let build = URL(filePath: modules).deletingLastPathComponent().path
        let child = try ChildProcess(
            projectFolder + ".ci/build-docs", [build, directory.path],
            environment: ["SWIFTC": try ChildProcess.pathOfTool("swiftc")])
        let status = try child.waitForExit(timeLimit: .seconds(600))
        #expect(status == .exited(0), "\(child.standardOutputText)\(child.standardErrorText)")

        // What CallbackAsync and CallbackTLS add to the types of the model is in files of their own.
        let graphs = [
            ("CallbackServer", "CallbackServer", 100), ("ParityKit", "ParityKit", 100),
            ("CallbackAsync", "CallbackAsync", 10), ("CallbackAsync", "CallbackAsync@CallbackModel", 8),
            ("CallbackTLS", "CallbackTLS", 60), ("CallbackTLS", "CallbackTLS@CallbackModel", 12),
        ]
        for (module, name, least) in graphs {
            let file = URL(filePath: directory.path(of: "symbols/\(module)/\(name).symbols.json"))
            let graph = try JSONDecoder().decode(SymbolGraph.self, from: Data(contentsOf: file))
            #expect(graph.symbols.count > least, "\(name): too few symbols to be all")
            for symbol in graph.symbols where !symbol.isMadeByTheCompiler && !symbol.isExtension {
                let name = symbol.pathComponents.joined(separator: ".")
                #expect(symbol.docComment?.lines.isEmpty == false, "\(module): \(name) is public and has no comment")
                // What only this package sets, the reference would show with a setter for everybody.
                let isSet = symbol.declaration.hasSuffix("{ get set }")
                let isUsers = symbol.pathComponents.last?.hasPrefix("on") == true || name == "Connection.options"
                #expect(!isSet || isUsers, "\(module): \(name) is shown with a setter: \(symbol.declaration)")
            }
        }
    }

    @Test func `shows Swift that compiles, with no unsafe in it`() throws {
        let compiler = try Compiler()
        var parts: [String] = []
        for page in try Page.all() {
            let fences = page.lines.count { $0.contains("```swift") }
            #expect(page.swiftBlocks.count == fences, "\(page.path): a block of Swift is indented or not closed")
            for block in page.swiftBlocks {
                #expect(!block.text.contains("unsafe"), "\(page.path):\(block.line)")
                let place = "#sourceLocation(file: \"\(page.path)\", line: \(block.line))\n"
                switch block.context {
                case .whole:
                    #expect(block.text.contains("import "), "\(page.path):\(block.line): neither whole nor explained")
                    let (isAccepted, output) = try compiler.compile([place + block.text])
                    #expect(isAccepted, "\(output)")
                case .given(let parameters):
                    parts.append(part(parts.count, "body(\(parameters)) throws", place + block.text))
                case .givenAsync(let parameters):
                    parts.append(part(parts.count, "body(\(parameters)) async throws", place + block.text))
                case .from(let path):
                    let shown = block.text.split(separator: "\n").map(trimmed)
                    let missing = firstMissing(of: shown, in: try Page.text(of: path))
                    #expect(missing == nil, "\(page.path):\(block.line): not in \(path), or not in this order")
                }
            }
        }
        let (isAccepted, output) = try compiler.compile(parts)
        #expect(isAccepted, "\(output)")
    }
}

/// A file with a function of this signature and body. It is in a type of its own, so that no two blocks share a name.
private func part(_ number: Int, _ signature: String, _ body: String) -> String {
    """
    import CallbackAsync
    import CallbackServer
    import CallbackTLS
    enum Part\(number) {
    static func \(signature) {
    \(body)
    }
    }
    """
}

/// The first of these lines that the file does not have behind those before it; margins do not count.
private func firstMissing(of lines: [Substring], in text: String) -> Substring? {
    var rest = text.split(separator: "\n").map(trimmed)[...]
    for line in lines where line != "…" {
        guard let place = rest.firstIndex(of: line) else { return line }
        rest = rest[(place + 1)...]
    }
    return nil
}

private func trimmed(_ line: Substring) -> Substring {
    line.drop { $0 == " " }
}

/// The part that is looked at of what `swift-symbolgraph-extract` writes.
private struct SymbolGraph: Decodable {
    let symbols: [Symbol]

    struct Symbol: Decodable {
        let identifier: Identifier
        let pathComponents: [String]
        let docComment: Comment?
        let declarationFragments: [Fragment]?

        var declaration: String { (declarationFragments ?? []).map(\.spelling).joined() }

        /// Such as the `hashValue` of an enum: nobody can write a comment there.
        var isMadeByTheCompiler: Bool { identifier.precise.contains("::SYNTHESIZED::") }

        /// The extension itself, and not what is in it.
        var isExtension: Bool { identifier.precise.hasPrefix("s:e:") }
    }

    struct Fragment: Decodable {
        let spelling: String
    }

    struct Identifier: Decodable {
        let precise: String
    }

    struct Comment: Decodable {
        let lines: [Line]

        struct Line: Decodable {
            let text: String
        }
    }
}
