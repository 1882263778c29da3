internal import COpenSSL
internal import CallbackModel
internal import Glibc

/// The file that secrets of connections are written to, for whoever has asked for it by an option: a debugger of the
/// protocol opens recorded connections with it.
final class KeyLog: Sendable {
    private let descriptor: Int32

    init(_ path: String) throws(TLS.ConfigurationError) {
        descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw .unreadable(IOError(call: "open", errno: errno, detail: String(escaping: path)))
        }
    }

    deinit {
        _ = close(descriptor)
    }

    /// One line, in one write(2), so that lines of several threads stay whole. What cannot be written is left out.
    func write(_ line: UnsafePointer<CChar>) {
        var bytes = unsafe Array(UnsafeRawBufferPointer(start: line, count: strlen(line)))
        bytes.append(UInt8(ascii: "\n"))
        _ = unsafe Glibc.write(descriptor, bytes, bytes.count)
    }
}
