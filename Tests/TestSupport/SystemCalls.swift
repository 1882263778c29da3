import Glibc

/// Another descriptor of the same socket or file, closed on exec.
public func duplicate(_ descriptor: Int32) -> Int32 {
    fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
}

/// A stream socket for `address`, closed on exec.
func makeSocket(for address: RawAddress) throws -> Int32 {
    let descriptor = socket(address.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw PeerError("socket", errno: errno, waitedFor: "a descriptor") }
    return descriptor
}

/// setsockopt(2).
func setOption<Value>(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Value) throws {
    let status = withUnsafeBytes(of: value) {
        setsockopt(descriptor, level, name, $0.baseAddress, socklen_t($0.count))
    }
    guard status == 0 else {
        throw PeerError("setsockopt", errno: errno, waitedFor: "option \(name) of level \(level)")
    }
}

/// Sets SO_RCVBUF and SO_SNDBUF where a size is given; the kernel doubles them (socket(7)).
///
/// Before connect(2) or listen(2), or the window that the peer was promised is larger than asked for.
func setBuffers(_ descriptor: Int32, receive: Int32?, send: Int32?) throws {
    if let receive { try setOption(descriptor, SOL_SOCKET, SO_RCVBUF, receive) }
    if let send { try setOption(descriptor, SOL_SOCKET, SO_SNDBUF, send) }
}

/// Without it Nagle's algorithm and the peer's delayed ACK make each small step of a script wait 40 ms.
func disableNagle(_ descriptor: Int32) throws {
    try setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, Int32(1))
}

/// poll(2) for one descriptor until it is ready or the deadline passes.
func wait(
    _ descriptor: Int32, for events: Int32, until deadline: Deadline, _ call: String, waitedFor: String
) throws {
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    while true {
        let count = poll(&entry, 1, deadline.remainingMilliseconds)
        if count > 0 {
            // poll(2) reports a closed descriptor as ready; the call that follows says EBADF itself.
            return
        }
        if count < 0, errno != EINTR { throw PeerError("poll", errno: errno, waitedFor: waitedFor) }
        if deadline.hasPassed { throw deadline.error(call, waitedFor: waitedFor) }
    }
}

/// The whole text of a small file, such as one of /proc.
public func contents(ofFile path: String) throws -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw PeerError("open", errno: errno, waitedFor: path) }
    defer { close(descriptor) }
    var text: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 16_384)
    while true {
        let count = read(descriptor, &piece, piece.count)
        if count > 0 {
            text += piece[..<count]
        } else if count == 0 {
            return String(decoding: text, as: UTF8.self)
        } else if errno != EINTR {
            throw PeerError("read", errno: errno, waitedFor: path)
        }
    }
}

/// The names in a directory, without `.` and `..`, and the descriptor that listed them.
func entries(ofDirectory path: String) throws -> (names: [String], descriptor: Int32) {
    guard let directory = opendir(path) else { throw PeerError("opendir", errno: errno, waitedFor: path) }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return (names, dirfd(directory))
}

/// What a symbolic link says, or `nil` if it is none or is gone.
func target(ofLink path: String) -> String? {
    var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = bytes.withUnsafeMutableBytes { buffer in
        readlink(path, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
    }
    return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
}

/// Closes a descriptor that has one owner. What two close is, the second time, often another's already.
func closeOwned(_ descriptor: Int32) {
    // Not retried: Linux has freed the number even when it says EINTR (close(2)).
    let wasOpen = close(descriptor) == 0 || errno != EBADF
    precondition(wasOpen, "descriptor \(descriptor) was closed by somebody else")
}
