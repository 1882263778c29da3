internal import CallbackModel
internal import Glibc

/// Where a certificate or a key comes from.
enum Source: Sendable {
    case file(String)
    case bytes([UInt8])

    /// What messages call it.
    var name: String {
        switch self {
        case .file(let path): String(escaping: path)
        case .bytes: "the text given"
        }
    }

    /// 1 MiB: a system's whole list of roots has about 220 KiB.
    private static let mostBytes = 1024 * 1024

    func read() throws(TLS.ConfigurationError) -> [UInt8] {
        switch self {
        case .bytes(let bytes): return bytes
        case .file(let path):
            do throws(IOError) {
                return try Self.read(path)
            } catch {
                throw .unreadable(error)
            }
        }
    }

    private static func read(_ path: String) throws(IOError) -> [UInt8] {
        let name = String(escaping: path)
        guard !path.utf8.contains(0) else { throw .invalid("open", name) }
        // Not to wait for the writer of a FIFO.
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw IOError(call: "open", errno: errno, detail: name) }
        defer { _ = close(descriptor) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            let count = unsafe Glibc.read(descriptor, &part, part.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw IOError(call: "read", errno: errno, detail: name) }
            if count == 0 { return bytes }
            bytes += part[..<count]
            guard bytes.count <= mostBytes else { throw IOError(call: "read", errno: EFBIG, detail: name) }
        }
    }
}
