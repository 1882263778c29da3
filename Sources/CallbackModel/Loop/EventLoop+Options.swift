extension EventLoop {
    /// What a loop is made with; every number is checked when the loop is made.
    public struct Options: Sendable {
        /// Whether ``EventLoop/metrics`` are kept. Off by default: it costs a look at the clock before and after each
        /// callback.
        public var collectsMetrics = false

        /// How many bytes all connections of the loop together may have queued, from 1 MiB; 1 GiB by default.
        ///
        /// When three quarters are reached, the loop is overloaded, until half is left. ``EventLoop/onOverload`` tells.
        /// Meanwhile:
        ///
        /// - A connection's share is this limit divided by the number of connections that have bytes queued. One that
        ///   has more is not read, since most queues grow by what is read, and its idle and read time-outs do not
        ///   count.
        /// - Connections whose queues do not move for 10 seconds are reset, with ``CloseReason/shed``, the longest
        ///   queue first, until the overload is over.
        /// - Beyond the limit, the connection with the longest queue is reset at once.
        public var maxQueuedBytes = 1 << 30

        /// How many bytes one read can bring, from 1 KiB to 16 MiB; 256 KiB by default.
        ///
        /// The loop has one such buffer, whatever the number of connections. With 256 KiB, a message of 1 MiB needs a
        /// quarter of the system calls that it needs with 64 KiB, which libuv suggests (libuv documentation,
        /// `uv_alloc_cb`). In one turn a connection gets at most 32 reads, and no more once 2 MiB have come.
        public var readBufferSize = 256 * 1024

        /// How many threads may look up names at a time, from 1 to 64; 4 by default.
        ///
        /// A look-up may take as long as the resolver waits for its name servers (resolv.conf(5): 5 s for each, twice),
        /// and look-ups behind it wait as long. Numeric addresses need no thread.
        public var lookUpThreads = 4

        /// The defaults above.
        public init() {}

        private static let lookUpThreadCounts = 1...64
        private static let readBufferSizes = 1 << 10...1 << 24

        /// 32 reads, as in libuv (`uv__read`), and 2 MiB, which 32 reads of 64 KiB can bring: what one connection gets
        /// in a turn, so that a flooding peer cannot starve quiet ones (contract clause 14).
        private static let (mostReadsPerTurn, mostBytesPerTurn) = (32, 2 << 20)

        /// How many reads that fill the buffer are a connection's turn.
        package var readsPerTurn: Int {
            min(Self.mostReadsPerTurn, max(1, Self.mostBytesPerTurn / readBufferSize))
        }

        package func validate() throws(IOError) {
            guard maxQueuedBytes >= 1 << 20 else {
                throw .invalid("EventLoop", "maxQueuedBytes \(maxQueuedBytes) is less than \(1 << 20)")
            }
            let threads = Self.lookUpThreadCounts
            guard threads.contains(lookUpThreads) else {
                throw .invalid(
                    "EventLoop",
                    "lookUpThreads \(lookUpThreads) is not between \(threads.lowerBound) and \(threads.upperBound)")
            }
            let sizes = Self.readBufferSizes
            guard sizes.contains(readBufferSize) else {
                throw .invalid(
                    "EventLoop",
                    "readBufferSize \(readBufferSize) is not between \(sizes.lowerBound) and \(sizes.upperBound)")
            }
        }
    }
}
