import CallbackServer
import Glibc
import TestSupport
import Testing

/// Peers that read slowly, over sockets with the buffers that the kernel gives them. They hold some MB of what was
/// sent, so that nothing leaves the queue for longer than any time-out here; `endurance slow-readers` is the full size.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Slow readers` {
    fileprivate static let limit = Duration.seconds(1)

    /// A reader: how much is written to it, of which kind the time-out is, and what it reads each 50 ms.
    fileprivate struct Reader {
        let name: String
        let kind: TimeoutKind
        let isUnix: Bool
        /// 1 MiB fits into the kernel's buffer, and the queue is empty.
        let size: Int
        let bytesPerTick: Int
    }

    fileprivate static let readers = [
        Reader(name: "write", kind: .write, isUnix: false, size: 16 << 20, bytesPerTick: 10_000),
        Reader(name: "idle", kind: .idle, isUnix: false, size: 16 << 20, bytesPerTick: 10_000),
        Reader(name: "idle, empty queue", kind: .idle, isUnix: false, size: 1 << 20, bytesPerTick: 10_000),
        Reader(name: "write, Unix", kind: .write, isUnix: true, size: 16 << 20, bytesPerTick: 4_000),
        Reader(name: "idle, Unix", kind: .idle, isUnix: true, size: 16 << 20, bytesPerTick: 4_000),
        Reader(name: "idle, empty queue, Unix", kind: .idle, isUnix: true, size: 128 << 10, bytesPerTick: 2_000),
    ]

    @Test func `are not ended while they read, and are when they stop`() throws {
        // Beside each other, since each takes as long as its time-outs.
        let runs = Engine.allCases.map { engine in
            onThread { try Run(engine).faults() }
        }
        for (engine, run) in zip(Engine.allCases, runs) {
            #expect(try run.value(timeLimit: .seconds(60)) == [], "\(engine)")
        }
    }

    /// All the readers, of one engine.
    private final class Run {
        private let loop: EventLoop
        private let directory: TemporaryDirectory
        private var connections: [Connection] = []
        private var peers: [PlainClient] = []
        private var reasons: [String: CloseReason] = [:]

        init(_ engine: Engine) throws {
            loop = try EventLoop(engine: engine)
            directory = try TemporaryDirectory()
            for reader in readers { try connect(reader) }
        }

        private func connect(_ reader: Reader) throws {
            let path = directory.path(of: reader.name)
            let address = try reader.isUnix ? SocketAddress.unix(path: path) : .ipv4("127.0.0.1", port: 0)
            let listener = try loop.listen(on: address) { [unowned self] in serve($0, reader) }
            peers.append(
                try reader.isUnix
                    ? PlainClient(unixPath: path) : PlainClient(port: listener.port, receiveBuffer: 8_192))
            while connections.count < peers.count { try loop.run(.once) }
            listener.close()
        }

        private func serve(_ connection: Connection, _ reader: Reader) {
            switch reader.kind {
            case .write: connection.options.timeouts.write = limit
            default: connection.options.timeouts.idle = limit
            }
            connection.write([UInt8](repeating: 1, count: reader.size))
            connection.onClose = { [unowned self] _, reason in reasons[reader.name] = reason }
            connections.append(connection)
        }

        func faults() throws -> [String] {
            var faults: [String] = []
            for (reader, connection) in zip(readers, connections)
            where (connection.bufferedByteCount == 0) != (reader.size < 8 << 20) {
                faults.append("\(reader.name): \(connection.bufferedByteCount) bytes queued")
            }
            var input = [UInt8](repeating: 0, count: 10_000)
            var ticks = 0
            let reading = loop.schedule(after: .zero, repeating: .milliseconds(50)) { [unowned self] _ in
                ticks += 1
                for (reader, peer) in zip(readers, peers) {
                    recv(peer.descriptor, &input, reader.bytesPerTick, Int32(MSG_DONTWAIT))
                }
            }
            // More than twice as long as the time-outs.
            try loop.run(until: { ticks >= 45 })
            if !reasons.isEmpty { faults.append("while they read: \(reasons)") }
            reading.cancel()
            try loop.run(until: { [unowned self] in reasons.count == readers.count })
            for reader in readers where reasons[reader.name] != .timedOut(reader.kind) {
                faults.append("\(reader.name): \(String(describing: reasons[reader.name]))")
            }
            return faults
        }
    }
}
