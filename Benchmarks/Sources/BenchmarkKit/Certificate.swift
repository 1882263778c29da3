internal import Foundation

/// A self-signed certificate and its key, made for one run, in a folder that goes with this object.
package final class Certificate {
    private let folder: URL

    /// PEM files, by their paths.
    package var path: String { folder.appending(path: "certificate.pem").path }
    package var keyPath: String { folder.appending(path: "key.pem").path }

    /// By `certificate.sh`, which needs the command `openssl`.
    package init(_ programs: Programs) throws(BenchmarkError) {
        folder = FileManager.default.temporaryDirectory.appending(path: "certificate-\(UUID().uuidString)")
        let script = programs.package + "/certificate.sh"
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = [script, folder.path]
        do {
            // The key is nobody else's.
            try FileManager.default.createDirectory(
                at: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            try process.run()
        } catch {
            throw BenchmarkError("\(script): \(error)")
        }
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw BenchmarkError("\(script) ended with the status \(process.terminationStatus)")
        }
    }

    deinit {
        try? FileManager.default.removeItem(at: folder)
    }
}
