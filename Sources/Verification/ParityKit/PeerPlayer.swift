internal import CallbackModel
internal import Glibc

/// Plays one peer's steps on its own thread.
final class PeerPlayer {
    private let peer: Peer
    private let number: Int
    private let board: Board
    private let place: Place
    private let transport: Transport
    private let deadline: ContinuousClock.Instant
    private var socket: PeerSocket?
    private var outcome: PeerOutcome
    private var room = [UInt8](repeating: 0, count: 64 * 1024)

    /// Where the other side is.
    enum Place: Sendable {
        /// It listens there.
        case connectTo(SocketAddress)
        /// It connects to this listening socket, which is the peer's from now on.
        case accept(Int32)
        /// It connects to somewhere that is not this peer's business.
        case nowhere
    }

    init(
        _ peer: Peer, _ number: Int, _ place: Place, over transport: Transport, _ board: Board,
        expecting reference: [UInt8]?, until deadline: ContinuousClock.Instant
    ) {
        self.peer = peer
        self.number = number
        self.place = place
        self.transport = transport
        self.board = board
        self.deadline = deadline
        outcome = PeerOutcome(digest: StreamDigest(prefixOf: reference))
    }

    /// Plays all steps; a failure that is an outcome, a reset, ends them.
    func play() -> PeerOutcome {
        var current = "connecting"
        do throws(PeerFailure) {
            try begin()
            for (index, step) in peer.steps.enumerated() {
                current = "step \(index), \(step)"
                try play(step)
            }
        } catch {
            // ENOENT: a listener that has closed has taken its Unix socket's file away.
            if error.errno == ECONNREFUSED || error.errno == ENOENT {
                outcome.ending = .refused
            } else if error.isReset {
                outcome.ending = .reset
            } else if error.isTruncation {
                outcome.ending = .truncated
            } else {
                outcome.failure = "peer \(number), \(current): \(error.description)"
            }
        }
        socket?.close()
        return outcome
    }

    private func begin() throws(PeerFailure) {
        switch place {
        case .nowhere: return
        case .connectTo: if !peer.steps.contains(.connect) { try connect() }
        case .accept(let listening):
            let listener = PeerSocket(adopting: listening, until: deadline)
            // Taken by the connection that it accepts.
            listener.setBuffers(receive: peer.receiveBuffer, send: peer.sendBuffer)
            try begin(try listener.accept(), isAccepted: true)
        }
    }

    private func connect() throws(PeerFailure) {
        guard case .connectTo(let address) = place else { return }
        let socket = try PeerSocket(for: address, until: deadline)
        socket.setBuffers(receive: peer.receiveBuffer, send: peer.sendBuffer)
        board.register(try socket.takeName(address, number: number), as: number)
        try socket.connect(to: address)
        try begin(socket, isAccepted: false)
    }

    /// The other side may wait for its accept still; a layer waits for the other side.
    private func begin(_ socket: PeerSocket, isAccepted: Bool) throws(PeerFailure) {
        self.socket = socket
        board.update(number) { $0.isConnected = true }
        if let layer = try transport.layer(socket, isAccepted) { try socket.speak(layer) }
    }

    private func play(_ step: Peer.Step) throws(PeerFailure) {
        switch step {
        case .wait(let milestone): return try wait(for: milestone, of: number)
        case .waitFor(let other, let milestone): return try wait(for: milestone, of: other)
        case .connect: return try connect()
        default: break
        }
        guard let socket else { return }
        switch step {
        case .send(let payload): try exchange(payload.bytes, receiving: 0, socket)
        case .drip(let payload, let size): try drip(payload.bytes, size, socket)
        case .flood(let payload, let other, let milestone):
            let bytes = payload.bytes
            while !board.progress(of: other).has(milestone) {
                try exchange(bytes, receiving: 0, socket)
                if ContinuousClock.now > deadline { throw PeerFailure(call: "flood", errno: 0) }
            }
        case .sendUrgent(let byte):
            var byte = byte
            _ = try unsafe withUnsafeBytes(of: &byte) { unsafe socket.sendPlain($0, flags: Int32(MSG_OOB)) }.get()
        case .exchange(let payload, let count): try exchange(payload.bytes, receiving: count, socket)
        case .read(let count): try exchange([], receiving: count, socket)
        case .readToEnd: try readToEnd(socket)
        case .echoToEnd: try echoToEnd(socket)
        case .halfClose: try socket.shutDown(Int(SHUT_WR))
        case .stopReading: try socket.shutDown(Int(SHUT_RD))
        case .reset: socket.reset()
        case .close: socket.close()
        case .wait, .waitFor, .connect: break
        }
    }

    private func wait(for milestone: Peer.Milestone, of number: Int) throws(PeerFailure) {
        guard board.wait(for: milestone, of: number, until: deadline) else { throw PeerFailure(call: "wait", errno: 0) }
    }

    private func drip(_ bytes: [UInt8], _ size: Int, _ socket: PeerSocket) throws(PeerFailure) {
        let before = board.progress(of: number).received
        var sent = 0
        while sent < bytes.count {
            let end = min(bytes.count, sent + max(1, size))
            try exchange(Array(bytes[sent..<end]), receiving: 0, socket)
            sent = end
            try wait(for: .received(before + sent), of: number)
        }
    }

    /// Sends and receives at the same time, so that neither side waits for the other for ever.
    private func exchange(_ bytes: [UInt8], receiving count: Int, _ socket: PeerSocket) throws(PeerFailure) {
        var sent = 0
        var received = 0
        while sent < bytes.count || received < count {
            let events = (sent < bytes.count ? POLLOUT : 0) | (received < count ? POLLIN : 0)
            try socket.wait(events, received < count ? "recv" : "send")
            if sent < bytes.count {
                let start = sent
                let taken = unsafe bytes.withUnsafeBytes {
                    unsafe socket.send(UnsafeRawBufferPointer(rebasing: $0[start...]))
                }
                sent += try taken.get() ?? 0
            }
            if received < count {
                guard let piece = try receive(atMost: count - received, socket) else { continue }
                guard piece > 0 else {
                    outcome.ending = .end
                    return
                }
                received += piece
            }
        }
    }

    private func readToEnd(_ socket: PeerSocket) throws(PeerFailure) {
        while true {
            try socket.wait(POLLIN, "recv")
            if try receive(atMost: room.count, socket) == 0 {
                outcome.ending = .end
                return
            }
        }
    }

    private func echoToEnd(_ socket: PeerSocket) throws(PeerFailure) {
        while true {
            try socket.wait(POLLIN, "recv")
            guard let count = try receive(atMost: room.count, socket) else { continue }
            if count == 0 { break }
            try exchange(Array(room[..<count]), receiving: 0, socket)
        }
        outcome.ending = .end
        try socket.shutDown(Int(SHUT_WR))
    }

    private func receive(atMost count: Int, _ socket: PeerSocket) throws(PeerFailure) -> Int? {
        let size = min(count, room.count)
        let answer = unsafe room.withUnsafeMutableBytes {
            unsafe socket.receive(UnsafeMutableRawBufferPointer(rebasing: $0[..<size]))
        }
        let received = try answer.get()
        if let received {
            unsafe room.withUnsafeBytes {
                unsafe outcome.digest.append(UnsafeRawBufferPointer(rebasing: $0[..<received]))
            }
        }
        return received
    }
}
