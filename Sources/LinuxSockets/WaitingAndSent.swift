internal import CLinux
@_spi(Engine) package import CallbackModel
internal import Glibc

// What the kernel knows of a stream socket. Asked when a time-out has passed; none of it moves a byte.

/// Whether a read would find something now: bytes, the end or an error (POLLIN, poll(2)).
package func hasInput(_ descriptor: Int32) -> Bool {
    isReady(descriptor, for: POLLIN)
}

/// Whether a write would move something now or find an error; for a socket that connects, whether that is decided
/// (connect(2), EINPROGRESS).
package func hasRoom(_ descriptor: Int32) -> Bool {
    isReady(descriptor, for: POLLOUT)
}

/// An error and a hang-up are ready for both: the call that follows tells which it is.
private func isReady(_ descriptor: Int32, for event: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(event), revents: 0)
    return unsafe descriptor >= 0 && poll(&entry, 1, 0) == 1 && Int32(entry.revents) & POLLNVAL == 0
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

/// Whether the peer has yet to acknowledge bytes that the kernel has taken, or, on a Unix socket, to read them
/// (SIOCOUTQ, tcp(7) and unix(7)).
package func hasUnacknowledged(_ descriptor: Int32) -> Bool {
    var count: Int32 = 0
    return unsafe descriptor >= 0 && linux_outgoing_queue(descriptor, &count) == 0 && count > 0
}

/// New data leaves only when the peer has made room for it. Lost data is sent again without that, so then only what the
/// peer says counts.
func progress(of information: linux_tcp_info) -> SendProgress {
    let isSentAgain = information.tcpi_retransmits > 0
    let before = isSentAgain ? information.tcpi_last_ack_recv : information.tcpi_last_data_sent
    return .acknowledged(information.tcpi_bytes_acked, roomMadeBefore: UInt64(before))
}
