internal import CLoad

/// What stopped a measurement: one sentence.
package struct BenchmarkError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

/// Connections to one server that compare every byte that comes back; `load.h` says how.
package final class Load {
    private var load: OpaquePointer?
    private var connectionCount: Int

    /// With a certificate over TLS, without in clear.
    package init(port: Int, connections: Int, certificate: Certificate? = nil) throws(BenchmarkError) {
        load = load_open(Int32(port), Int32(connections), certificate?.path)
        connectionCount = connections
        if load == nil { throw Self.failure }
    }

    deinit {
        if let load { load_abandon(load) }
    }

    private static var failure: BenchmarkError { BenchmarkError(String(cString: load_error())) }

    private static func check(_ result: Int32) throws(BenchmarkError) {
        if result != 0 { throw failure }
    }

    /// How long a server may make no progress before it counts as broken.
    package static func setPatience(seconds: Double) {
        load_set_patience(seconds)
    }

    /// Adds idle connections until there are so many in all.
    package func grow(to count: Int) throws(BenchmarkError) {
        guard count > connectionCount else { return }
        try Self.check(load_add(load, Int32(count - connectionCount)))
        connectionCount = count
    }

    /// Closed loop over the first `connections`, or over all: how many messages came back.
    package func echo(
        over connections: Int? = nil, size: Int, seconds: Double
    ) throws(BenchmarkError) -> Int {
        var messages: UInt64 = 0
        let count = Int32(connections ?? connectionCount)
        try Self.check(load_echo(load, count, UInt64(size), seconds, &messages))
        return Int(messages)
    }

    /// Open loop over all connections: the latency of each message, in nanoseconds from when it was to be sent.
    package func echo(size: Int, perSecond rate: Double, messages: Int) throws(BenchmarkError) -> [Int64] {
        var latencies = [Int64](repeating: 0, count: messages)
        try Self.check(load_echo_at_rate(load, UInt64(size), rate, UInt64(messages), &latencies))
        return latencies
    }

    /// One sends, all receive: how many messages were sent.
    package func fanOut(size: Int, seconds: Double) throws(BenchmarkError) -> Int {
        var messages: UInt64 = 0
        try Self.check(load_fan_out(load, UInt64(size), seconds, &messages))
        return Int(messages)
    }

    /// Ends every stream; throws if the server does not do the same, or sends a byte more.
    package func close() throws(BenchmarkError) {
        guard let open = load else { return }
        load = nil
        try Self.check(load_close(open))
    }

    /// Connections that live for one message: how many did. With a certificate over TLS; then `resuming` says whether
    /// each resumes a session of an earlier one.
    package static func connect(
        port: Int, atATime: Int, size: Int, seconds: Double, certificate: Certificate? = nil, resuming: Bool = false
    ) throws(BenchmarkError) -> Int {
        var connections: UInt64 = 0
        try check(
            load_connect(
                Int32(port), Int32(atATime), UInt64(size), seconds, certificate?.path, resuming, &connections))
        return Int(connections)
    }
}
