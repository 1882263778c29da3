import Glibc

/// A directory of a test's own, gone with this object.
///
/// Its path is short: a Unix socket's whole path has to fit 108 bytes (unix(7)), whatever TMPDIR says.
public final class TemporaryDirectory: Sendable {
    /// The directory, such as `/tmp/cbs-Ab12Cd`.
    public let path: String

    /// Makes the directory, for this user alone.
    public init() throws {
        var template = Array("/tmp/cbs-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw PeerError("mkdtemp", errno: errno, waitedFor: "a directory in /tmp")
        }
        path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    deinit { Self.remove(path) }

    /// The path of a file or socket in it.
    public func path(of name: String) -> String { "\(path)/\(name)" }

    /// Removes what it can: a file that is left behind in /tmp fails no test.
    private static func remove(_ path: String) {
        // unlink(2) first: a link to a directory must go, not what is in that directory.
        if unlink(path) == 0 { return }
        for name in (try? entries(ofDirectory: path).names) ?? [] { remove("\(path)/\(name)") }
        rmdir(path)
    }
}
