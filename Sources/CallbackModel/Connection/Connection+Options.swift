extension Connection {
    /// What a connection is made with. Numbers out of bounds are refused with EINVAL where the options are used.
    public struct Options: Sendable {
        /// `write` returns ``WriteStatus/saturated`` when this many bytes are queued or more; from 1 to 1 GiB.
        public var highWaterMark = 64 * 1024
        /// When the queue has fallen to this many bytes, `onDrain` runs; less than ``highWaterMark``.
        public var lowWaterMark = 16 * 1024
        /// The most bytes that may be queued, from ``highWaterMark`` on; `nil` for no limit but the loop's
        /// (``EventLoop/Options/maxQueuedBytes``). A write that leaves more waiting resets the connection, with
        /// ``CloseReason/shed``. With ``Connection/pipe(to:)`` it has to be as much as ``highWaterMark`` and a read
        /// buffer together (``EventLoop/Options/readBufferSize``), which is what a pipe may queue.
        public var maxQueuedBytes: Int? = nil
        /// Whether this side may go on writing after the peer's FIN, until ``Connection/end()`` (RFC 9293, 3.6).
        public var allowsHalfOpen = false
        /// Sends small segments at once (TCP_NODELAY, tcp(7)): batches are the loop's business, not Nagle's.
        public var noDelay = true
        /// Probes of a silent peer (SO_KEEPALIVE, tcp(7)); `nil` for none.
        public var keepAlive: KeepAlive? = nil
        /// The kernel's receive buffer in bytes, from 1 (SO_RCVBUF, socket(7)); `nil` for its own choice.
        public var receiveBufferSize: Int? = nil
        /// The kernel's send buffer in bytes, from 1 (SO_SNDBUF, socket(7)); `nil` for its own choice.
        public var sendBufferSize: Int? = nil
        /// How many bytes the kernel takes beyond those that it has sent already, from 1 (TCP_NOTSENT_LOWAT, tcp(7));
        /// `nil` for the system's choice, usually as many as the send buffer holds.
        ///
        /// What it does not take stays in the queue, where ``Connection/bufferedByteCount``, `onDrain` and time-outs
        /// see it, and where ``Connection/reset()`` can drop it. 128 KiB is a usual value. Unix sockets have no such
        /// limit.
        public var notSentLowWaterMark: Int? = nil
        /// The type of service of outgoing packets, the DSCP in its upper six bits (IP_TOS, ip(7); IPV6_TCLASS,
        /// ipv6(7)); `nil` for the system's.
        public var typeOfService: UInt8? = nil
        /// How long sent bytes may stay unacknowledged until the connection fails with ETIMEDOUT, from 1 ms to 24 days
        /// (TCP_USER_TIMEOUT, tcp(7)); `nil` for the system's, about 15 minutes.
        ///
        /// It also ends a healthy peer that only does not read. Its kernel answers, but has no room for more bytes, and
        /// bytes that wait for room count as unacknowledged.
        public var userTimeout: Duration? = nil
        /// How long to wait for what.
        public var timeouts = Timeouts()

        /// The defaults above.
        public init() {}

        package func validate() throws(IOError) {
            guard (1...1 << 30).contains(highWaterMark) else {
                throw .invalid("options", "highWaterMark \(highWaterMark) is not between 1 and \(1 << 30)")
            }
            guard (0..<highWaterMark).contains(lowWaterMark) else {
                throw .invalid("options", "lowWaterMark \(lowWaterMark) is not between 0 and \(highWaterMark - 1)")
            }
            if let maxQueuedBytes, maxQueuedBytes < highWaterMark {
                throw .invalid(
                    "options", "maxQueuedBytes \(maxQueuedBytes) is less than highWaterMark, \(highWaterMark)")
            }
            for size in [receiveBufferSize, sendBufferSize] {
                guard let size else { continue }
                guard (1...Int(Int32.max)).contains(size) else {
                    throw .invalid("setsockopt", "a buffer of \(size) bytes is not between 1 and \(Int32.max)")
                }
            }
            if let notSentLowWaterMark {
                guard (1...Int(Int32.max)).contains(notSentLowWaterMark) else {
                    throw .invalid(
                        "setsockopt", "notSentLowWaterMark \(notSentLowWaterMark) is not between 1 and \(Int32.max)")
                }
            }
            if let userTimeout {
                guard (.milliseconds(1) ... .seconds(24 * 24 * 3600)).contains(userTimeout) else {
                    throw .invalid("setsockopt", "a userTimeout of \(userTimeout) is not between 1 ms and 24 days")
                }
            }
            try keepAlive?.validate()
            try timeouts.validate()
        }
    }

    /// TCP keep-alive (tcp(7)), in whole seconds from 1 to 32,767.
    public struct KeepAlive: Hashable, Sendable {
        /// Silence before the first probe (TCP_KEEPIDLE).
        public var idle: Duration
        /// Between probes (TCP_KEEPINTVL).
        public var interval: Duration
        /// Unanswered probes until the connection fails, from 1 to 127 (TCP_KEEPCNT).
        public var count: Int

        /// Probes after `idle`, every `interval`, `count` times.
        public init(idle: Duration = .seconds(60), interval: Duration = .seconds(10), count: Int = 6) {
            self.idle = idle
            self.interval = interval
            self.count = count
        }

        package var idleSeconds: Int32 { Int32(clamping: idle.components.seconds) }
        package var intervalSeconds: Int32 { Int32(clamping: interval.components.seconds) }

        func validate() throws(IOError) {
            for time in [idle, interval] {
                guard (.seconds(1) ... .seconds(32_767)).contains(time) else {
                    throw .invalid("setsockopt", "a keep-alive time of \(time) is not between 1 s and 32767 s")
                }
            }
            guard (1...127).contains(count) else {
                throw .invalid("setsockopt", "\(count) keep-alive probes are not between 1 and 127")
            }
        }
    }

    /// Time-outs, each 1 ms or more, rounded up to whole milliseconds; `nil` for none.
    ///
    /// When a time-out has passed, the kernel is asked before the connection ends. What the time-out waits for puts it
    /// off: input that waits to be read, room for what is queued, and, for `idle` and `write`, bytes that the peer has
    /// acknowledged. If the loop itself was late to look, the peer gets ten times that delay as well, at most the whole
    /// time-out again.
    public struct Timeouts: Hashable, Sendable {
        /// Neither side sent anything for this long, and the peer acknowledged nothing. Counts also while the
        /// connection is paused: input that waits meanwhile does not put it off.
        public var idle: Duration? = nil
        /// The peer sent nothing for this long, while the connection was reading.
        public var read: Duration? = nil
        /// Bytes were queued for this long, none of them left, and the peer acknowledged nothing.
        public var write: Duration? = nil
        /// The queue was too long for this long: a write returned ``WriteStatus/saturated``, and the queue has not
        /// fallen to the low water mark since. It counts also while the peer takes bytes, only too slowly.
        public var saturated: Duration? = nil
        /// The peer was slower than this: the defence against one that sends or takes a byte at a time.
        public var minimumRate: MinimumRate? = nil
        /// The connection did not open within this time.
        public var connect: Duration? = .seconds(30)
        /// How long ``Connection/close()`` may flush. Then the peer is reset.
        public var close: Duration = .seconds(5)

        /// The defaults above.
        public init() {}

        func validate() throws(IOError) {
            for time in [idle, read, write, saturated, connect, close] {
                guard let time else { continue }
                guard time >= .milliseconds(1) else {
                    throw .invalid("timeout", "a time-out of \(time) is less than 1 ms")
                }
            }
            try minimumRate?.validate()
        }
    }

    /// One copy of the options for all connections of a listener.
    final class SharedOptions {
        let value: Options

        init(_ value: Options) {
            self.value = value
        }
    }
}
