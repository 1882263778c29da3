import Foundation
import TestSupport

/// A Markdown page of the project.
struct Page: Sendable {
    /// Its path from the top of the repository.
    let path: String
    /// Its lines, from 0.
    let lines: [String]

    /// Reads a page.
    init(path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    /// A block of Swift that it shows.
    struct Block: Sendable {
        /// The number of the block's first line, from 1.
        let line: Int
        /// What is between the fences.
        let text: String
        /// What the comment above it says.
        let context: Context
    }

    /// What a block needs in order to compile: nothing, or what the comment `<!-- … -->` on the line above it says.
    enum Context: Hashable, Sendable {
        /// Nothing: it is all of a file.
        case whole
        /// `<!-- given: connection: Connection -->`: the body of a function that throws, with these parameters.
        case given(String)
        /// `<!-- given async: connection: Connection -->`: the same, of an `async` function.
        case givenAsync(String)
        /// `<!-- from: Tests/… -->`: lines of that file, in its order; `…` stands for others.
        case from(String)
    }

    /// The blocks of Swift that it shows.
    var swiftBlocks: [Block] {
        var blocks: [Block] = []
        var start: Int?
        for (index, line) in lines.enumerated() {
            if line == "```swift" {
                start = index + 1
            } else if line.hasPrefix("```"), let first = start {
                let text = lines[first..<index].joined(separator: "\n") + "\n"
                let context = first >= 2 ? Self.context(lines[first - 2]) : .whole
                blocks.append(Block(line: first + 1, text: text, context: context))
                start = nil
            }
        }
        return blocks
    }

    private static func context(_ line: String) -> Context {
        func value(of key: String) -> String? {
            let (start, end) = ("<!-- \(key): ", " -->")
            guard line.hasPrefix(start), line.hasSuffix(end) else { return nil }
            return String(line.dropFirst(start.count).dropLast(end.count))
        }
        if let parameters = value(of: "given") { return .given(parameters) }
        if let parameters = value(of: "given async") { return .givenAsync(parameters) }
        if let path = value(of: "from") { return .from(path) }
        return .whole
    }
}

extension Page {
    /// Every Markdown page of the project.
    static func all() throws -> [Page] {
        let manager = FileManager.default
        var paths = try manager.contentsOfDirectory(atPath: projectFolder)
        for folder in ["Vendor-notes", "Benchmarks", "Examples", "Tests", "Sources"] {
            // A nested package has a build folder of its own, with the pages of others.
            let names = (try? manager.contentsOfDirectory(atPath: projectFolder + folder)) ?? []
            for name in names where !name.hasPrefix(".") {
                paths.append("\(folder)/\(name)")
                let below = (try? manager.subpathsOfDirectory(atPath: "\(projectFolder)\(folder)/\(name)")) ?? []
                paths += below.map { "\(folder)/\(name)/\($0)" }
            }
        }
        return try paths.filter { $0.hasSuffix(".md") }.sorted().map { path in
            Page(path: path, text: try text(of: path))
        }
    }

    /// What a file of the project holds.
    static func text(of path: String) throws -> String {
        try String(contentsOfFile: projectFolder + path, encoding: .utf8)
    }

    /// The paths that `path`, as this page writes it, may mean: from the top of the repository, or from the page.
    func meanings(of path: String) -> [String] {
        let folder = URL(filePath: projectFolder + self.path).deletingLastPathComponent()
        return [projectFolder + path, folder.appending(path: path).standardizedFileURL.path]
    }

    /// The names under which a browser finds the headings, as GitHub makes them.
    var anchors: Set<String> {
        Set(
            prose.filter { $0.text.hasPrefix("#") }.map { line in
                let title = line.text.drop { $0 == "#" }.dropFirst().lowercased()
                return String(title.filter { $0.isLetter || $0.isNumber || "-_ ".contains($0) })
                    .replacing(" ", with: "-")
            })
    }

    /// The lines outside of blocks of code, with their numbers from 1.
    var prose: [(number: Int, text: String)] {
        var isCode = false
        return lines.enumerated().compactMap { index, line in
            if line.hasPrefix("```") { isCode.toggle() }
            return isCode ? nil : (index + 1, line)
        }
    }
}
