import Foundation

/// What the command writes: rows to standard output, progress to standard error.
final class Terminal {
    private let isInteractive = isatty(STDERR_FILENO) == 1
    private var lastLine = ContinuousClock.now

    /// Without a terminal a line of progress comes so often.
    private static let plainInterval: Duration = .seconds(20)

    func print(_ line: String) {
        erase()
        Swift.print(line)
        // Into a pipe or a file the line would stay in the buffer.
        fflush(nil)
    }

    func progress(_ text: @autoclosure () -> String) {
        let now = ContinuousClock.now
        if isInteractive {
            guard now - lastLine > .milliseconds(100) else { return }
            write("\r\u{1B}[K" + text())
        } else {
            guard now - lastLine > Self.plainInterval else { return }
            write(text() + "\n")
        }
        lastLine = now
    }

    private func erase() {
        if isInteractive { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }
}
