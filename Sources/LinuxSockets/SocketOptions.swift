@_spi(Engine) package import CallbackModel
internal import Glibc

/// What an accepted or opened socket is given before it is used.
///
/// If the peer has gone already, some options fail with EINVAL. Failures are not reported here: the next read reports
/// what has happened.
package func apply(_ options: Connection.Options, to descriptor: Int32, isTCP: Bool) {
    if let size = options.receiveBufferSize { set(descriptor, SOL_SOCKET, SO_RCVBUF, to: Int32(size)) }
    if let size = options.sendBufferSize { set(descriptor, SOL_SOCKET, SO_SNDBUF, to: Int32(size)) }
    guard isTCP else { return }
    let tcp = Int32(IPPROTO_TCP)
    if options.noDelay { set(descriptor, tcp, TCP_NODELAY, to: 1) }
    if let type = options.typeOfService {
        set(descriptor, Int32(IPPROTO_IP), IP_TOS, to: Int32(type))
        // An IPv4 socket refuses this one, which does no harm.
        set(descriptor, Int32(IPPROTO_IPV6), IPV6_TCLASS, to: Int32(type))
    }
    if let mark = options.notSentLowWaterMark { set(descriptor, tcp, TCP_NOTSENT_LOWAT, to: Int32(mark)) }
    if let limit = options.userTimeout { set(descriptor, tcp, TCP_USER_TIMEOUT, to: Int32(limit.wholeMilliseconds)) }
    guard let keepAlive = options.keepAlive else { return }
    set(descriptor, SOL_SOCKET, SO_KEEPALIVE, to: 1)
    set(descriptor, tcp, TCP_KEEPIDLE, to: keepAlive.idleSeconds)
    set(descriptor, tcp, TCP_KEEPINTVL, to: keepAlive.intervalSeconds)
    set(descriptor, tcp, TCP_KEEPCNT, to: Int32(keepAlive.count))
}

/// Sets an option that is an `int` (setsockopt(2)): 0 or -1, and `errno`.
@discardableResult
func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, to value: Int32) -> Int32 {
    var value = value
    return unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
}

/// What close(2) does with bytes that the kernel still has (SO_LINGER, socket(7)).
package enum Linger {
    /// It returns at once, and the kernel goes on sending. With a linger time it would block the loop, also on a
    /// non-blocking socket. What a listener accepts inherits this.
    case inBackground
    /// It drops them and sends RST in place of FIN.
    case reset
}

package func setLinger(_ descriptor: Int32, to mode: Linger) {
    var lingering = linger(l_onoff: mode == .reset ? 1 : 0, l_linger: 0)
    unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &lingering, socklen_t(MemoryLayout<linger>.size))
}
