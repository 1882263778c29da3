import ExampleTestSupport
import Foundation
import Testing

/// The certificates and keys that the library's own tests speak TLS with, made once for the process.
enum Certificates {
    private static let directory = Result { try make() }

    private static func make() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        // From Examples/Tests/ExampleTests.
        let checkout = URL(filePath: #filePath).appending(path: "../../../..").standardized
        let script = checkout.appending(path: "Tests/CallbackTLSTests/make-certificates.sh").path
        let child = try ChildProcess("/bin/sh", [script, directory.path])
        try #require(try child.waitForExit(timeLimit: Example.patience) == .exited(0), "\(child.standardErrorText)")
        return directory
    }

    /// The path of one of the files.
    static func path(_ name: String) throws -> String { try directory.get().path(of: name) }

    /// Those that sign what a server here shows.
    static func roots() throws -> String { try path("root.pem") }

    /// Options for a server with such a certificate.
    static func server(_ certificate: String = "chain.pem", _ key: String = "leaf.key") throws -> [String] {
        ["--certificate", try path(certificate), "--key", try path(key)]
    }
}

/// A version of TLS, as peers write it.
enum TLSVersion: String, CaseIterable, CustomTestStringConvertible {
    case tls12 = "1.2"
    case tls13 = "1.3"

    var testDescription: String { "TLS \(rawValue)" }
    /// For `openssl s_client`.
    var option: String { "-tls\(rawValue.replacing(".", with: "_"))" }
}

/// The path of a peer's program beside the tests.
func peer(_ name: String) -> String {
    URL(filePath: #filePath).appending(path: "../../Peers/\(name)").standardized.path
}
