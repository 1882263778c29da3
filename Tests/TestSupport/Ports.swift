import Glibc

/// The TCP port that a socket is bound to; 0 if it has none.
public func localPort(of descriptor: Int32) -> UInt16 { RawAddress(of: descriptor) { getsockname($0, $1, $2) }.port }

/// The sockets of this process that listen on a TCP port, by their kernel names: a group may have several at one port,
/// and several descriptors of one.
public func listeningSockets(port: UInt16) throws -> [String: Int32] {
    var sockets: [String: Int32] = [:]
    for (descriptor, name) in try openDescriptors() where name.hasPrefix("socket:") {
        var isListening: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) == 0 else { continue }
        if isListening != 0, localPort(of: descriptor) == port { sockets[name] = descriptor }
    }
    return sockets
}

/// Waits until a TCP port of 127.0.0.1 refuses. Throws at once if this process listens there, and if the port still
/// takes clients after the limit.
///
/// A listener that has closed can be there for a moment more: a child that another test has just forked has all
/// sockets until it executes its program.
public func waitUntilRefused(port: UInt16, timeLimit: Duration = standardTimeLimit) throws {
    guard try listeningSockets(port: port).isEmpty else {
        throw PeerError(
            call: "connect", cause: .unexpected("this process listens"), waitedFor: "port \(port) to refuse")
    }
    let deadline = Deadline(in: timeLimit)
    while true {
        do {
            _ = try PlainClient(port: port, timeLimit: timeLimit)
        } catch let error as PeerError where error.errno == ECONNREFUSED {
            return
        } catch let error as PeerError where error.errno == ECONNRESET {
            // Taken by a listener that has closed since.
        }
        if deadline.hasPassed { throw deadline.error("connect", waitedFor: "port \(port) to refuse") }
        _ = poll(nil, 0, 1)
    }
}

/// A TCP port of 127.0.0.1 that has no listener and can be bound.
public func unusedPort() throws -> UInt16 {
    let listener = try PlainListener()
    let port = listener.port
    listener.close()
    try waitUntilRefused(port: port)
    return port
}
