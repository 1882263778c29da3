import CallbackTLS
import Glibc
import TestSupport

/// The certificates of `make-certificates.sh`, made once for the process.
enum Certificates {
    private static let directory = Result { try make() }

    private static func make() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        let script = #filePath.split(separator: "/").dropLast(2).map { "/\($0)" }.joined() + "/make-certificates.sh"
        let child = try ChildProcess("/bin/sh", [script, directory.path])
        let status = try child.waitForExit(timeLimit: .seconds(60))
        guard status == .exited(0) else { throw CertificateError(description: "make-certificates.sh: \(status)") }
        return directory
    }

    /// The path of one of the files.
    static func path(_ name: String) throws -> String { try directory.get().path(of: name) }

    static func identity(_ name: String, key: String? = nil) throws -> TLS.Identity {
        TLS.Identity(
            certificateChain: .file(try path("\(name).pem")), privateKey: .file(try path("\(key ?? name).key")))
    }

    static func trust(_ name: String = "root") throws -> TLS.Trust {
        .certificates(.file(try path("\(name).pem")))
    }

    /// A server that clients who trust the root accept under the names of this machine.
    static func server(_ change: (inout TLS.Server.Options) -> Void = { _ in }) throws -> TLS.Server {
        var options = TLS.Server.Options()
        change(&options)
        return try TLS.Server(identities: [identity("chain", key: "leaf")], options: options)
    }

    static func client(_ change: (inout TLS.Client.Options) -> Void = { _ in }) throws -> TLS.Client {
        var options = TLS.Client.Options()
        change(&options)
        return try TLS.Client(trust: trust(), options: options)
    }
}

struct CertificateError: Error {
    let description: String
}
