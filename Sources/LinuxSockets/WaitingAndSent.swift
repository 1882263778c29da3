internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc

// What the kernel knows of a stream socket. Asked when a time-out has passed, or when the connection does not read.

/// Whether a read would find something now: bytes, the end or an error (POLLIN, poll(2)).
package func hasInput(_ descriptor: Int32) -> Bool {
    isReady(descriptor, for: POLLIN)
}

/// Whether a write would move bytes now or find an error. For a socket that connects: whether the outcome is decided
/// (connect(2), EINPROGRESS).
package func hasRoom(_ descriptor: Int32) -> Bool {
    isReady(descriptor, for: POLLOUT)
}

/// An error or a hang-up makes a socket ready for both. The call that follows tells which it is.
private func isReady(_ descriptor: Int32, for event: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(event), revents: 0)
    return unsafe descriptor >= 0 && poll(&entry, 1, 0) == 1 && Int32(entry.revents) & POLLNVAL == 0
}

/// Why the connection is lost, if it is: an error that poll(2) reports unasked (POLLERR).
package func loss(of descriptor: Int32) -> Int32? {
    var entry = pollfd(fd: descriptor, events: 0, revents: 0)
    guard unsafe descriptor >= 0 && poll(&entry, 1, 0) == 1, Int32(entry.revents) & POLLERR != 0 else { return nil }
    return lossError(of: descriptor)
}

/// What the kernel knows of the bytes that it has taken (TCP_INFO, tcp(7); SIOCOUTQ, unix(7)).
package func sendProgress(_ descriptor: Int32) -> SendProgress? {
    var information = linux_tcp_info()
    var length = socklen_t(MemoryLayout<linux_tcp_info>.size)
    let status = unsafe getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &information, &length)
    if status == 0, length >= MemoryLayout<linux_tcp_info>.size { return progress(of: information) }
    // Not TCP: another socket refuses TCP_INFO.
    var untaken: Int32 = 0
    var full: Int32 = 0
    length = socklen_t(MemoryLayout<Int32>.size)
    guard unsafe linux_outgoing_queue(descriptor, &untaken) == 0,
        unsafe getsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &full, &length) == 0
    else { return nil }
    return .untaken(Int(untaken), full: Int(full))
}

/// Whether the kernel has bytes that the peer has not acknowledged or, on a Unix socket, not read (SIOCOUTQ, tcp(7) and
/// unix(7)).
package func hasUnacknowledged(_ descriptor: Int32) -> Bool {
    var count: Int32 = 0
    return unsafe descriptor >= 0 && linux_outgoing_queue(descriptor, &count) == 0 && count > 0
}

/// New data leaves only when the peer has made room for it. Lost data is sent again without room, so then only the
/// peer's acknowledgements count.
func progress(of information: linux_tcp_info) -> SendProgress {
    let isSentAgain = information.tcpi_retransmits > 0
    let before = isSentAgain ? information.tcpi_last_ack_recv : information.tcpi_last_data_sent
    return .acknowledged(information.tcpi_bytes_acked, roomMadeBefore: UInt64(before))
}
