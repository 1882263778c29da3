internal import COpenSSL
internal import CallbackModel
internal import Glibc

/// The file that secrets of connections are written to, for whoever has asked for it by an option: a debugger of the
/// protocol opens recorded connections with it.
final class KeyLog: Sendable {
    private let descriptor: Int32

    init(_ path: String) throws(TLS.ConfigurationError) {
        let name = String(escaping: path)
        guard !path.utf8.contains(0) else { throw .invalid("keyLogFile \(name) holds a NUL byte") }
        // Not to wait for the reader of a FIFO.
        descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0o600)
        guard descriptor >= 0 else { throw .unreadable(IOError(call: "open", errno: errno, detail: name)) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .invalid("keyLogFile \(name) is no regular file")
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
