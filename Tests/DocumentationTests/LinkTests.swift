import Foundation
import TestSupport
import Testing

/// What the pages lead to.
@Suite(.timeLimit(.minutes(5)), .onOwnThread)
struct `Every page` {
    @Test func `links to pages and headings that are there`() throws {
        for page in try Page.all() {
            for (number, line) in page.prose {
                for match in line.matches(of: /\]\(([^)\s]+)\)/) {
                    let problem = try problem(of: String(match.output.1), on: page)
                    #expect(problem == nil, "\(page.path):\(number)")
                }
            }
        }
    }

    @Test func `names files that are there`() throws {
        let pathInProject = /(?:^|[^\w\/])((?:Sources|Tests|Vendor-notes|Benchmarks|Examples|\.ci)\/[\w\/.+-]*\w)/
        for page in try Page.all() {
            for (index, line) in page.lines.enumerated() {
                for match in line.matches(of: pathInProject) {
                    let path = String(match.output.1)
                    // What a build makes is there only after it.
                    if path.contains("/.build/") { continue }
                    #expect(page.meanings(of: path).contains(where: isThere), "\(page.path):\(index + 1) names \(path)")
                }
            }
        }
    }

    @Test func `names what is in a file rightly`() throws {
        var count = 0
        for page in try Page.all() {
            // Across the ends of lines.
            let text = page.lines.joined(separator: " ")
            for match in text.matches(of: /`(?:\w+\.)?(\w+)` in +`((?:Sources|Tests)\/[^`]+)`/) {
                let (word, path) = (match.output.1, String(match.output.2))
                guard let file = page.meanings(of: path).first(where: isThere) else { continue }
                let code = try String(contentsOfFile: file, encoding: .utf8)
                let words = code.split { !$0.isLetter && !$0.isNumber && $0 != "_" }
                #expect(words.contains(word), "\(page.path): \(path) has no \(word)")
                count += 1
            }
        }
        #expect(count > 10, "the pages no longer say what is in which file")
    }

    @Test func `fits lines of 120 columns, tables and links aside`() throws {
        for page in try Page.all() {
            for (number, line) in page.prose where !line.hasPrefix("|") && !line.contains("](") {
                #expect(line.count <= 120, "\(page.path):\(number) has \(line.count) columns")
            }
        }
    }

    @Test func `tells nothing of where it was written`() throws {
        for page in try Page.all() {
            for (index, line) in page.lines.enumerated() {
                let isLocal = ["home", "root", "Users"].contains { line.contains("/\($0)/") }
                #expect(!isLocal, "\(page.path):\(index + 1): a path of one machine")
            }
        }
    }
}

/// What is wrong with a link; nothing for one that leads out of the project.
private func problem(of link: String, on page: Page) throws -> String? {
    if link.hasPrefix("http://") || link.hasPrefix("https://") { return nil }
    let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    var target = page
    if !parts[0].isEmpty {
        let path = URL(filePath: page.path, relativeTo: URL(filePath: projectFolder)).deletingLastPathComponent()
            .appending(path: parts[0]).standardizedFileURL.path
        guard isThere(path) else { return "\(link): no such file" }
        guard parts.count == 2 else { return nil }
        target = Page(path: parts[0], text: try String(contentsOfFile: path, encoding: .utf8))
    }
    guard parts.count == 2, !target.anchors.contains(parts[1]) else { return nil }
    return "\(link): no such heading among \(target.anchors.sorted())"
}

private func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
