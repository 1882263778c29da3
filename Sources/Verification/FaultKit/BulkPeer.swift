internal import CallbackModel
internal import Glibc
internal import ParityKit
internal import Synchronization

/// One peer after another, each a connection's worth of bytes sent, and compared as they come back.
struct BulkPeer: Sendable {
    let number: Int
    let address: SocketAddress
    let form: BulkForm
    let seed: UInt64
    let state: BulkEcho.State
    let isEnough: @Sendable () -> Bool
    let progress: @Sendable (String) -> Void

    /// A connection ends after about so many bytes, so that accepting and ending meet faults as well.
    private static let bytesOfConnection = 10_000...500_000
    /// At most so many bytes are on their way: few for many calls, or more than a water mark and the kernel's buffers
    /// hold.
    private static let windows = [500, 1_000, 4_000, 16_000, 300_000]
    /// One write of the peer's.
    private static let largestPiece = 16_384
    /// A byte that is owed for so long is taken for lost.
    private static let patience: Duration = .seconds(60)

    func run() {
        var generator = SplitMix(seed: seed &* 1_000 &+ UInt64(number))
        var connections = 0
        while !isEnough() {
            connections += 1
            if number == 0 { progress("\(connections) connections") }
            let count = Int.random(in: Self.bytesOfConnection, using: &generator)
            var exchange = Exchange(
                form, Payload.pattern(generator.next(), count: count).bytes, generator: generator)
            generator = SplitMix(seed: generator.next())
            do throws(PeerFailure) {
                let socket = try PeerSocket(for: address, until: ContinuousClock.now + Self.patience)
                try socket.connect(to: address)
                try exchange.play(socket, Self.patience, isEnough)
            } catch {
                state.fail("peer \(number), connection \(connections), \(exchange.place): \(error.description)")
            }
            let result = exchange
            state.findings.withLock { findings in
                findings.bytes += UInt64(result.received)
                findings.lost += UInt64(result.sent - result.good)
                findings.longestStall = max(findings.longestStall, result.longestStall)
            }
            if result.sent != result.good { return }
        }
    }

    /// One connection.
    struct Exchange {
        let pattern: [UInt8]
        /// Where its frames end, if it has frames: of a part of one nothing comes back.
        private let ends: [Int]
        var generator: SplitMix
        private(set) var sent = 0
        private(set) var received = 0
        /// So many of the received bytes were the right ones.
        private(set) var good = 0
        private(set) var longestStall: Duration = .zero
        private var lastProgress = ContinuousClock.now
        private var room = [UInt8](repeating: 0, count: 65_536)
        private let window: Int

        init(_ form: BulkForm, _ bytes: [UInt8], generator: SplitMix) {
            self.generator = generator
            window = BulkPeer.windows.randomElement(using: &self.generator) ?? bytes.count
            // What is on its way holds at least one whole frame, which comes back.
            (pattern, ends) = form.stream(of: bytes, largest: window / 4, &self.generator)
        }

        var place: String { "\(sent) bytes sent, \(received) received" }

        /// Sends all, receives all, ends.
        mutating func play(
            _ socket: PeerSocket, _ patience: Duration, _ isEnough: () -> Bool
        ) throws(PeerFailure) {
            lastProgress = .now
            var total = pattern.count
            while received < total {
                // What was begun is finished, and no more is begun.
                if sent < total, isEnough() { total = ends.first { $0 >= sent } ?? sent }
                if received == total { break }
                let maySend = sent < total && sent - received < window
                socket.deadline = lastProgress + patience
                try socket.wait(POLLIN | (maySend ? POLLOUT : 0), "recv")
                if maySend { try send(socket, upTo: total) }
                guard try receive(socket) else { return }
            }
            try socket.shutDown(Int(SHUT_WR))
            try socket.wait(POLLIN, "the end")
            _ = try receive(socket)
        }

        private mutating func send(_ socket: PeerSocket, upTo total: Int) throws(PeerFailure) {
            // Small pieces as often as large ones.
            let bound = 1 << Int.random(in: 0...14, using: &generator)
            let end = min(total, sent + Int.random(in: 1...min(bound, BulkPeer.largestPiece), using: &generator))
            let start = sent
            let taken = unsafe pattern.withUnsafeBytes {
                unsafe socket.send(UnsafeRawBufferPointer(rebasing: $0[start..<end]))
            }
            guard let count = try taken.get(), count > 0 else { return }
            if sent == received { lastProgress = .now }
            sent += count
        }

        /// Whether the connection goes on.
        private mutating func receive(_ socket: PeerSocket) throws(PeerFailure) -> Bool {
            let answer = unsafe room.withUnsafeMutableBytes { unsafe socket.receive($0) }
            guard let count = try answer.get() else { return true }
            let now = ContinuousClock.now
            if sent > received { longestStall = max(longestStall, now - lastProgress) }
            lastProgress = now
            guard count > 0 else { return false }
            let isGood =
                good == received && received + count <= sent
                && room[..<count].elementsEqual(pattern[received..<received + count])
            received += count
            if isGood { good = received }
            return true
        }
    }
}
